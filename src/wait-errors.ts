/** What may be said about waiting, and how it may end: what a client beyond HTTP shares with the library. */

/** It was waited for longer than `timeoutMs`. The command goes on. */
export class WaitTimeoutError extends Error {
  readonly code = "ORCHESTRATUM_WAIT_TIMEOUT";
  override readonly name = "WaitTimeoutError";
  readonly id: string;
  constructor(id: string, timeoutMs: number) {
    super(`Cannot wait for command ${id} any longer: it has not ended within ${timeoutMs} ms`);
    this.id = id;
  }
}

/** There is no command with this id: it was never pushed, its transaction has not committed, or retention removed it. */
export class UnknownCommandError extends Error {
  readonly code = "ORCHESTRATUM_UNKNOWN_COMMAND";
  override readonly name = "UnknownCommandError";
  readonly id: string;
  constructor(id: string, attempt = `Cannot wait for command ${id}`) {
    super(`${attempt}: there is none with this id (not pushed, not committed yet, or long expired)`);
    this.id = id;
  }
}

/** The orchestrator was stopped. */
export class StoppedError extends Error {
  readonly code = "ORCHESTRATUM_STOPPED";
  override readonly name = "StoppedError";
}

export interface WaitOptions {
  /** How long to wait, in ms: 0 to 2,147,483,647. @default for ever */
  readonly timeoutMs?: number;
  /** Ends the waiting with the signal's reason. The command goes on. */
  readonly signal?: AbortSignal;
}
