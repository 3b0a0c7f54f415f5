/**
 * Cancelling commands, wherever they are and whether or not a worker lives: what nobody holds is ended in the same
 * statement, what a worker holds is marked, and the worker told.
 */
import type { Clock } from "./clock.ts";
import { type Database, isPassing, repeatDelayMs } from "./database.ts";
import type { Due, Hints } from "./hints.ts";
import { maxBatchCommands } from "./limits.ts";
import type { Observer } from "./observation.ts";
import { pause } from "./wakeup.ts";

/**
 * What a cancellation came to: `cancelled`, it was waiting and has ended; `requested`, a worker runs it and is told;
 * `finished`, too late; `unknown`, there is none with this id; `busy`, somebody had it locked for as long as was asked.
 */
export type CancelResult = "cancelled" | "requested" | "finished" | "unknown" | "busy";

interface CancelRow extends Due {
  readonly id: string | null;
  readonly result: CancelResult | "due";
  readonly awaited: boolean;
}

/** How long a command that is locked is asked for again. */
const patienceMs = 5_000;
const maxAttempts = 8;

export async function cancelCommands(
  ids: readonly string[],
  database: Database,
  clock: Clock,
  hints: Hints,
  report: Observer,
): Promise<Map<string, CancelResult>> {
  const results = new Map<string, CancelResult>();
  const until = clock.now() + patienceMs;
  let left = [...new Set(ids.map((id) => id.toLowerCase()))];
  for (let attempt = 1, troubles = 0; left.length > 0; attempt++) {
    const batch = left.slice(0, maxBatchCommands);
    let rows: CancelRow[];
    try {
      rows = await database.run<CancelRow>("cancel", [JSON.stringify(batch)]);
    } catch (error) {
      // What a lost reply has cancelled answers "finished" the second time.
      if (!isPassing(error) || ++troubles >= maxAttempts) throw error;
      report({ type: "database_trouble", operation: "cancel", error, attempt: troubles });
      await pause(clock, repeatDelayMs(clock, troubles, 1_000));
      continue;
    }
    hints.due(rows.filter((row) => row.id === null));
    const busy: string[] = [];
    for (const row of rows) {
      if (row.id === null) continue;
      const result = row.result as CancelResult;
      results.set(row.id, result);
      if (result === "busy" && clock.now() < until) busy.push(row.id);
      if (result === "requested") hints.cancel(row.id);
      // A reply that was lost would have said who waits.
      if (row.awaited || (result === "finished" && troubles > 0)) hints.finished(row.id);
    }
    left = [...left.slice(maxBatchCommands), ...busy];
    if (busy.length > 0) await pause(clock, repeatDelayMs(clock, Math.min(attempt, 4), 250));
  }
  return new Map(ids.map((id) => [id, results.get(id.toLowerCase()) as CancelResult]));
}
