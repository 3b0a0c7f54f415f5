/** The output was recorded, but the contract known here does not take it; another version wrote it, perhaps. */
export class InvalidOutputError extends Error {
  readonly code = "ORCHESTRATUM_INVALID_OUTPUT";
  override readonly name = "InvalidOutputError";
  readonly id: string;
  /** What was recorded. */
  readonly rawOutput: unknown;
  constructor(id: string, rawOutput: unknown, cause: unknown) {
    super(`Cannot read the output of command ${id}: ${cause instanceof Error ? cause.message : cause}`, { cause });
    this.id = id;
    this.rawOutput = rawOutput;
  }
}
