/**
 * What is asked of many commands by statements that wait for no lock: in batches, and of those that somebody had locked
 * once more, for as long as it makes sense.
 */
import type { Clock } from "./clock.ts";
import { type Database, isPassing, repeatDelayMs, type Statement } from "./database.ts";
import type { Param } from "./driver.ts";
import type { Due, Hints } from "./hints.ts";
import { maxBatchCommands } from "./limits.ts";
import type { Observer } from "./observation.ts";
import { pause } from "./wakeup.ts";

/** A row of such a statement: what came of one command, or without an id, what to hint at. */
export interface Answer<Result extends string> extends Due {
  readonly id: string | null;
  readonly result: Result | "busy" | "due";
}

/** A statement that takes ids, as a JSON list, first. */
export interface Question<Row> {
  readonly statement: Statement;
  /** Those after the ids. */
  readonly params: readonly Param[];
  /** Sees each row that has an id; `repeated`: after a statement whose reply may have been lost. */
  readonly seen?: ((row: Row, repeated: boolean) => void) | undefined;
}

export interface QuestionParts {
  readonly database: Database;
  readonly clock: Clock;
  readonly hints: Hints;
  readonly report: Observer;
}

/** How long a command that is locked is asked for again. */
const patienceMs = 5_000;
const maxTroubles = 8;

/** Answers each id as it was given. */
export async function askAgain<Result extends string, Row extends Answer<Result> = Answer<Result>>(
  ids: readonly string[],
  { statement, params, seen }: Question<Row>,
  { database, clock, hints, report }: QuestionParts,
): Promise<Map<string, Result | "busy">> {
  const results = new Map<string, Result | "busy">();
  const until = clock.now() + patienceMs;
  let left = [...new Set(ids.map((id) => id.toLowerCase()))];
  for (let attempt = 1, troubles = 0; left.length > 0; attempt++) {
    const batch = left.slice(0, maxBatchCommands);
    let rows: Row[];
    try {
      rows = await database.run<Row>(statement, [JSON.stringify(batch), ...params]);
    } catch (error) {
      if (!isPassing(error) || ++troubles >= maxTroubles) throw error;
      report({ type: "database_trouble", operation: statement, error, attempt: troubles });
      await pause(clock, repeatDelayMs(clock, troubles, 1_000));
      continue;
    }
    hints.due(rows.filter((row) => row.result === "due"));
    const busy: string[] = [];
    for (const row of rows) {
      if (row.id === null) continue;
      const result = row.result as Result | "busy";
      results.set(row.id, result);
      if (result === "busy" && clock.now() < until) busy.push(row.id);
      seen?.(row, troubles > 0);
    }
    left = [...left.slice(maxBatchCommands), ...busy];
    if (busy.length > 0) await pause(clock, repeatDelayMs(clock, Math.min(attempt, 4), 250));
  }
  return new Map(ids.map((id) => [id, results.get(id.toLowerCase()) as Result | "busy"]));
}
