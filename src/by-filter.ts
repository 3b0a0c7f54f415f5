/**
 * Control by filter: what a filter finds, on what there was when it began, a thousand commands at a time. Each part
 * commits for itself; what was cut off is finished by a second call, which finds what is left.
 */
import type { QuestionParts } from "./ask-again.ts";
import type { Database } from "./database.ts";
import type { CommandFilter } from "./filter.ts";
import type { CommandStatus } from "./get.ts";
import { type Keys, maxBatchCommands, requireBoolean, requireFunction, shown } from "./limits.ts";
import { listPage } from "./list.ts";

export interface FilterOptions {
  /** Counts and changes nothing. @default false */
  readonly dryRun?: boolean | undefined;
  /** Hears after each part how many it has been so far. */
  readonly onProgress?: ((count: number) => void) | undefined;
}

export const filterKeys: Keys<FilterOptions> = { dryRun: true, onProgress: true };

/** What control by filter came to. */
export interface FilterResult {
  /** How many commands were changed; in a dry run, how many would be. */
  readonly count: number;
  /** How many somebody else had locked for as long as was asked: they are as they were. */
  readonly busy: number;
}

interface Change {
  /** What cannot be done where the filter is refused. */
  readonly attempt: string;
  /** Statuses that it makes sense for. */
  readonly allowed: readonly CommandStatus[];
  /** Those that are meant where the filter names none. */
  readonly usual: readonly CommandStatus[];
  /** Changes these, and answers what came of each. */
  apply(ids: readonly string[], target: string): Promise<Map<string, string>>;
  /** Results that count as changed; the first is that of commands which no list with this filter finds any more. */
  readonly done: readonly [string, ...string[]];
  /** What moves while it is listed is found by another pass. */
  readonly maxPasses: number;
  /** Whether what was erased is among what a filter finds. @default true */
  readonly erased?: boolean | undefined;
}

/** Refuses, where ids are given, what only a filter takes: it would be ignored in silence. */
export function requireFilterless(attempt: string, options: FilterOptions): void {
  for (const key of Object.keys(filterKeys) as (keyof FilterOptions)[]) {
    if (options[key] === undefined) continue;
    throw new TypeError(`${attempt}: ${key} goes with a filter, and ids are given: leave it out, or give a filter`);
  }
}

export async function changeByFilter(
  filter: CommandFilter,
  change: Change,
  { dryRun = false, onProgress }: FilterOptions,
  { database }: QuestionParts,
): Promise<FilterResult> {
  requireBoolean(change.attempt, "dryRun", dryRun);
  if (onProgress !== undefined) requireFunction(change.attempt, "onProgress", onProgress);
  const meant = narrowed(filter, change);
  // What an error says may be what is to be erased one day; acts stay.
  const noted = meant.errorText === undefined ? meant : { ...meant, errorText: "…" };
  const target = JSON.stringify({ filter: noted });
  const before = await readClock(database);
  /** Those that stay where they are, so that another pass finds them again. */
  const known = new Set<string>();
  let count = 0;
  let busy = 0;
  for (let pass = 1, fresh = true; fresh && pass <= change.maxPasses; pass++) {
    fresh = false;
    let cursor: string | undefined;
    do {
      const page = await listPage(database, meant, {
        limit: maxBatchCommands,
        cursor,
        before,
        erased: change.erased,
        attempt: change.attempt,
      });
      cursor = page.cursor;
      const ids = page.commands.map(({ id }) => id as string).filter((id) => !known.has(id));
      if (ids.length === 0) continue;
      if (dryRun) {
        count += ids.length;
      } else {
        fresh = true;
        for (const [id, result] of await change.apply(ids, target)) {
          if (result !== change.done[0]) known.add(id);
          if (change.done.includes(result)) count++;
          else if (result === "busy") busy++;
        }
      }
      onProgress?.(count);
    } while (cursor !== undefined);
  }
  return { count, busy };
}

/** With the statuses that it is meant for. */
function narrowed(filter: CommandFilter, { attempt, allowed, usual }: Change): CommandFilter {
  const { status } = filter;
  if (status === undefined) return { ...filter, status: usual };
  for (const one of Array.isArray(status) ? (status as readonly CommandStatus[]) : [status as CommandStatus]) {
    if (allowed.includes(one)) continue;
    throw new RangeError(`${attempt}: filter.status must be one of ${allowed.join(", ")}, got ${shown(one)}`);
  }
  return filter;
}

async function readClock(database: Database): Promise<Date> {
  const [row] = await database.run<{ ms: number }>("readClock", []);
  return new Date((row as { ms: number }).ms);
}
