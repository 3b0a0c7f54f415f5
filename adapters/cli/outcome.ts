/** How a command ended, for those that wait for it: printed, and as an exit code. */

import { type CommandOutcome, UnknownCommandError, WaitTimeoutError } from "../../src/index.ts";
import type { Reached } from "./connection.ts";
import { type ExitCode, exitCode } from "./exit-code.ts";
import { paint, plain, print, printJson, statusColour } from "./terminal.ts";

interface WaitForEndOptions {
  readonly timeoutMs: number | undefined;
  readonly json: boolean;
}

/** Waits, and prints what became of it: never its output, which may be anything. */
export async function waitForEnd(
  orchestrator: Reached,
  id: string,
  { timeoutMs, json }: WaitForEndOptions,
): Promise<ExitCode> {
  let outcome: CommandOutcome;
  try {
    outcome = await orchestrator.waitFor(id, timeoutMs === undefined ? {} : { timeoutMs });
  } catch (error) {
    if (!(error instanceof WaitTimeoutError) && !(error instanceof UnknownCommandError)) throw error;
    console.error(error.message);
    if (json) await printJson({ id });
    return error instanceof WaitTimeoutError ? exitCode.partly : exitCode.unknown;
  }
  const error = outcome.status === "succeeded" ? undefined : outcome.error;
  const { code, message } = error ?? {};
  if (json) {
    await printJson({
      id,
      status: outcome.status,
      ...(error && { error: { ...(code !== undefined && { code }), message } }),
    });
  } else {
    const reason = error ? `: ${plain([code, message].filter(Boolean).join(": "))}` : "";
    await print(`${id} ${paint(outcome.status, statusColour(outcome.status))}${reason}`);
  }
  return endedAs(outcome.status);
}

/** What a status means as an exit code: not having ended yet is no failure. */
export const endedAs = (status: string): ExitCode =>
  ["failed", "cancelled", "timed_out", "not_found"].includes(status) ? exitCode.ended : exitCode.done;
