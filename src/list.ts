/**
 * Lists of commands, page by page. First what is live, in the order in which it is claimed, then what has finished, the
 * newest first. A cursor is the place of a page's last command in that order, so a page costs the page, wherever it
 * begins, and what is pushed or finishes between two pages shifts nothing.
 */
import type { Database } from "./database.ts";
import { type CommandFilter, encodeFilter } from "./filter.ts";
import { type Keys, requireInteger, requireTime, shown } from "./limits.ts";
import { parseTime } from "./outcome.ts";
import { type CommandSummary, type SummaryRow, summaryOf } from "./summary.ts";
import { isUuid } from "./uuid.ts";

export interface ListOptions {
  /** Most commands of one page: 1 to 1,000. @default 100 */
  readonly limit?: number | undefined;
  /** The `cursor` of the page before, with the same filter. @default the first page */
  readonly cursor?: string | undefined;
}

export const listKeys: Keys<ListOptions> = { limit: true, cursor: true };

/** One page of a list. */
export interface CommandList {
  readonly commands: readonly CommandSummary[];
  /** Where the next page begins; undefined on the last. */
  readonly cursor: string | undefined;
}

export interface PageOptions extends ListOptions {
  /** Leaves out what was created (live) or finished (history) after this time. */
  readonly before?: Date | undefined;
  /** Whether what was erased is listed. @default true */
  readonly erased?: boolean | undefined;
  /** What cannot be done where something is refused. @default "Cannot list commands" */
  readonly attempt?: string | undefined;
}

/** The place of a command in the order of lists: a lane and a time where it is live, else a time. */
interface Place {
  readonly queue?: string;
  readonly priority?: number;
  readonly available_at?: string;
  readonly finished_at?: string;
  readonly id: string;
}

const defaultLimit = 100;
const maxLimit = 1_000;

/** @throws TypeError and RangeError for a filter, a limit or a cursor that is none, before any I/O. */
export async function listPage(
  database: Database,
  filter: CommandFilter = {},
  options: PageOptions = {},
): Promise<CommandList> {
  const { limit = defaultLimit, cursor, before, erased, attempt = "Cannot list commands" } = options;
  const encoded = encodeFilter(attempt, filter, erased);
  requireInteger(attempt, "limit", limit, 1, maxLimit);
  const after = cursor === undefined ? null : JSON.stringify(decodeCursor(attempt, cursor));
  if (before !== undefined) requireTime(attempt, "before", before);
  // One more than is wanted tells whether there is another page.
  const rows = await database.run<SummaryRow>("list", [encoded, after, limit + 1, before?.toISOString() ?? null]);
  const page = rows.slice(0, limit);
  const last = page.at(-1);
  return {
    commands: page.map(summaryOf),
    cursor: rows.length > limit && last !== undefined ? encodeCursor(placeOf(last)) : undefined,
  };
}

function placeOf(row: SummaryRow): Place {
  const { id, queue, priority, available_at, finished_at } = row;
  return finished_at === null ? { queue, priority, available_at: available_at as string, id } : { finished_at, id };
}

/** base64url of JSON: it travels in addresses and command lines as it is. */
function encodeCursor(place: Place): string {
  const bytes = new TextEncoder().encode(JSON.stringify(place));
  const binary = Array.from(bytes, (byte) => String.fromCharCode(byte)).join("");
  return btoa(binary).replaceAll("+", "-").replaceAll("/", "_").replace(/=+$/, "");
}

function decodeCursor(attempt: string, cursor: unknown): Place {
  if (typeof cursor !== "string") throw new TypeError(`${attempt}: cursor must be a string, got ${shown(cursor)}`);
  try {
    const binary = atob(cursor.replaceAll("-", "+").replaceAll("_", "/"));
    const bytes = Uint8Array.from(binary, (character) => character.charCodeAt(0));
    const place: unknown = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes));
    if (isPlace(place)) return place;
  } catch {
    // No base64, no UTF-8 or no JSON: refused like JSON of another shape.
  }
  throw new RangeError(`${attempt}: cursor must be one that an earlier page gave, got ${shown(cursor)}`);
}

function isPlace(value: unknown): value is Place {
  if (typeof value !== "object" || value === null) return false;
  const { queue, priority, available_at, finished_at, id } = value as Record<string, unknown>;
  if (!isUuid(id)) return false;
  if (finished_at !== undefined) return isTime(finished_at);
  const isQueue = typeof queue === "string" && queue.length <= 200 && queue.isWellFormed() && !queue.includes("\0");
  return isQueue && Number.isInteger(priority) && Math.abs(priority as number) < 100 && isTime(available_at);
}

/** As PostgreSQL writes it in UTC, and no day that is in no calendar. */
function isTime(value: unknown): boolean {
  if (value === "infinity" || value === "-infinity") return true;
  if (typeof value !== "string" || !/^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(\.\d{1,6})?\+00$/.test(value)) return false;
  const time = parseTime(value);
  return !Number.isNaN(time.getTime()) && time.toISOString().slice(0, 19) === value.slice(0, 19).replace(" ", "T");
}
