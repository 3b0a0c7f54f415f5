/** The time-limited right to execute a command once, as the worker that holds it keeps it. */
import { chainOf } from "./chain.ts";
import type { Ending } from "./ending.ts";
import type { Success } from "./execute.ts";
import type { Handler } from "./handler.ts";
import type { ObservedCommand } from "./observation.ts";

/** A command as a claim answers it. */
export interface ClaimedRow {
  readonly id: string;
  readonly name: string;
  readonly version: number;
  readonly hook: "failure" | "cancellation" | null;
  /** What is to be done: run the handler, or record an end that is already decided. */
  readonly purpose: "run" | "cancel" | "exhausted";
  readonly fence: number;
  readonly attempt: number;
  readonly max_attempts: number;
  readonly losses: number;
  readonly timeout_ms: number;
  readonly parent_id: string | null;
  readonly unknown_since: string | null;
  readonly input: string | null;
  /** What middleware lays over it takes its place. */
  metadata: string | null;
  /** The worker whose lease of it ended without a word: this claim counted a loss. */
  readonly abandoned_by: string | null;
  readonly lane: number;
  readonly available_at: string;
  /** Its lane's queue; written by the worker, which knows the lanes. */
  queue: string;
  /** The clock that the claim went by, in microseconds; written by the worker. */
  claimed_micros: number;
}

/** Why an attempt was ended from outside: the reason of its signal. */
export class AttemptAbortedError extends Error {
  override readonly name = "AttemptAbortedError";
  readonly code:
    | "ORCHESTRATUM_TIMED_OUT"
    | "ORCHESTRATUM_CANCELLED"
    | "ORCHESTRATUM_LEASE_LOST"
    | "ORCHESTRATUM_STOPPED";
  constructor(code: AttemptAbortedError["code"], message: string) {
    super(message);
    this.code = code;
  }
}

export class Lease {
  readonly row: ClaimedRow;
  /** Undefined where an end is recorded that needs none. */
  readonly handler: Handler | undefined;
  startedAt: number;
  /** Never, until the handler is started. */
  timeoutAt: number = Number.POSITIVE_INFINITY;
  /** By this process's monotonic clock: after it, somebody else may have the command. */
  trustedUntil: number;
  /** The attempt was started: middleware, the input's schema, the handler. */
  started = false;
  /** The handler, or a hook that is a command of its own, was called. */
  called = false;
  /** The handler has returned or thrown. */
  settled = false;
  /** An outcome is on its way, or the lease is lost: whatever else comes has no say. */
  over = false;
  /** The success that was recorded within a transaction of the handler's own, which may be open, or rolled back. */
  within: Success | undefined;
  /** What it ends with instead, as the database refused the first ending because of what was in it. */
  refused: Ending | undefined;
  /** Cancellation was requested. */
  cancelled = false;
  /** When a handler that was aborted counts as stuck. */
  graceEndsAt: number = Number.POSITIVE_INFINITY;
  stuck = false;
  /** How long the handler's first synchronous stretch took, in ms. */
  syncMs = 0;
  /** The progress that is still to be written, as JSON. */
  progress: string | undefined;
  progressAt: number = Number.NEGATIVE_INFINITY;
  #controller: AbortController | undefined;
  #reason: AttemptAbortedError | undefined;

  constructor(row: ClaimedRow, handler: Handler | undefined, now: number, trustedUntil: number) {
    this.row = row;
    this.handler = handler;
    this.startedAt = now;
    this.trustedUntil = trustedUntil;
  }

  get key(): string {
    return leaseKey(this.row);
  }

  /** The attempt is about to be started: its timeout counts from here. */
  start(now: number): void {
    this.started = true;
    this.startedAt = now;
    this.timeoutAt = now + this.row.timeout_ms;
  }

  /** Made when somebody looks at it: most handlers do not, and it costs as much as the rest of a small command. */
  get signal(): AbortSignal {
    if (!this.#controller) {
      this.#controller = new AbortController();
      if (this.#reason) this.#controller.abort(this.#reason);
    }
    return this.#controller.signal;
  }

  get reason(): AttemptAbortedError | undefined {
    return this.#reason;
  }

  abort(reason: AttemptAbortedError): void {
    if (this.#reason) return;
    this.#reason = reason;
    this.#controller?.abort(reason);
  }
}

export function leaseKey(row: { readonly id: string; readonly fence: number }): string {
  return `${row.id}:${row.fence}`;
}

/** What observations say of a command. */
export function observed(
  command: Readonly<Pick<ClaimedRow, "id" | "name" | "queue" | "fence" | "attempt" | "metadata">>,
): ObservedCommand {
  const { id, name, queue, fence, attempt } = command;
  return { id, name, queue, fence, attempt, chain: chainOf(id, command.metadata) };
}
