/**
 * Cancelling commands, wherever they are and whether or not a worker lives: what nobody holds is ended in the same
 * statement, what a worker holds is marked, and the worker told.
 */
import { type Answer, askAgain, type QuestionParts } from "./ask-again.ts";

/**
 * What a cancellation came to: `cancelled`, it was waiting and has ended; `requested`, a worker runs it and is told;
 * `finished`, too late; `unknown`, there is none with this id; `busy`, somebody had it locked for as long as was asked.
 */
export type CancelResult = "cancelled" | "requested" | "finished" | "unknown" | "busy";

interface CancelRow extends Answer<CancelResult> {
  readonly awaited: boolean;
}

export interface CancelNote {
  /** Who does it. */
  readonly by?: string | undefined;
  /** What the commands were found by, as JSON. */
  readonly target?: string | undefined;
}

export async function cancelCommands(
  ids: readonly string[],
  parts: QuestionParts,
  { by, target }: CancelNote = {},
): Promise<Map<string, CancelResult>> {
  const { hints } = parts;
  const noted = by !== undefined || target !== undefined;
  return await askAgain<CancelResult, CancelRow>(
    ids,
    {
      statement: noted ? "cancelBy" : "cancel",
      params: noted ? [by ?? null, target ?? null] : [],
      seen({ id, result, awaited }, repeated) {
        if (result === "requested") hints.cancel(id as string);
        // What a lost reply has cancelled answers "finished" the second time, and would have said who waits.
        if (awaited || (result === "finished" && repeated)) hints.finished(id as string);
      },
    },
    parts,
  );
}
