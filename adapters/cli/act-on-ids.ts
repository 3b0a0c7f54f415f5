import { maxBatchCommands } from "../../src/limits.ts";
import type { Connection, Reached } from "./connection.ts";
import { showProgress } from "./progress-bar.ts";

/** How many requests for single commands are under way at the same time. */
const requestsAtOnce = 8;

/**
 * Acts on ids, as many at a time as a statement takes, or as many as are asked for over HTTP at the same time, with a
 * bar that says how many are done. What was done before it throws stays.
 *
 * @param label what is being done: "Cancelling"
 */
export async function actOnIds<Result extends string>(
  { orchestrator, here }: Connection,
  label: string,
  ids: readonly string[],
  act: (orchestrator: Reached, ids: readonly string[]) => Promise<ReadonlyMap<string, Result>>,
): Promise<ReadonlyMap<string, Result>> {
  const different = [...new Set(ids)];
  const size = here === undefined ? requestsAtOnce : maxBatchCommands;
  const results = new Map<string, Result>();
  const progress = showProgress(label);
  try {
    for (let place = 0; place < different.length; place += size) {
      progress.update(place, different.length);
      for (const [id, result] of await act(orchestrator, different.slice(place, place + size))) results.set(id, result);
    }
  } finally {
    progress.end();
  }
  return results;
}
