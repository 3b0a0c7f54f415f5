/**
 * The log: every event of the store in one order, that of commits in each stream. An event has its position only when
 * somebody places it, after its commit: whoever reads does so, and a duty where nobody reads. So a position that was
 * read stays what it is, nothing ever appears before it, and it means the same after a dump was restored elsewhere.
 */
import type { Clock } from "./clock.ts";
import type { Database } from "./database.ts";
import { type Keys, requireInteger, requireKeys, shown } from "./limits.ts";
import {
  type EventParser,
  type EventRow,
  type ParsedEvent,
  parseEvents,
  type RecordedEvent,
  requireParsers,
} from "./recorded-event.ts";
import { requirePattern } from "./topic.ts";
import { pause } from "./wakeup.ts";

/** A place in the log, as an event's `position` or as text; 0 is before the first event. */
export type LogPosition = number | string;

export interface ReadAllOptions<E extends EventParser = EventParser> {
  /** The position after which to begin. @default 0 */
  readonly after?: LogPosition | undefined;
  /** Patterns of topics: `orders.events.*` (one level), `orders.#` (any number, only at the end). @default every topic */
  readonly topics?: string | readonly string[] | undefined;
  /** Most events: 1 to 1,000. @default 100 */
  readonly limit?: number | undefined;
  /** Contracts whose schemas parse the data of their topics. @default none: data as it was given */
  readonly events?: readonly E[] | undefined;
}

const readKeys: Keys<ReadAllOptions> = { after: true, topics: true, limit: true, events: true };

/** Some of the log. */
export interface LogPage<Event = RecordedEvent> {
  /** In the order of the log. Fewer than `limit` does not mean that there are no more: 8 MB of data are a page, too. */
  readonly events: readonly Event[];
  /** How far the log was read: where to go on, also where no event had one of the topics. */
  readonly position: number;
  /** Whether there may be more at once. */
  readonly more: boolean;
}

export interface LogReader {
  /** Rows after a position, and how far that was; events that have no place yet get one where these are wanted. */
  read(after: number, limit: number, pattern: string | null): Promise<RowPage>;
  /** Places what is committed, 1,000 events at most. Where somebody else does so at this moment it waits a little. */
  place(): Promise<Placed>;
}

/** What placing came to. */
export interface Placed {
  readonly count: number;
  /** The last position of the log: what has none is what had not committed before, or more than one statement places. */
  readonly head: number;
  /** Whether there may be more soon: events without a place, which somebody else was placing for longer than is waited. */
  readonly busy: boolean;
}

/** How far a read came; no event. */
interface EndRow {
  readonly id: null;
  readonly event_position: string | null;
  readonly more: boolean;
}

export interface RowPage {
  readonly rows: readonly EventRow[];
  readonly position: number;
  readonly more: boolean;
}

/** Most events that one statement places. */
export const placeAtOnce = 1_000;
/** Most events that one read looks at for those of its topics. */
const maxScanned = 10_000;
/** How long one waits for another who places at this moment, doubled each time: a quarter of a second in all. */
const busyMs = [2, 4, 8, 16, 32, 64, 128] as const;
const maxLimit = 1_000;

export function createLogReader(database: Database, clock: Clock): LogReader {
  async function place(): Promise<Placed> {
    for (let turn = 0; ; turn++) {
      const [row] = await database.run<{ placed: number; head: string; busy: boolean }>("sequenceEvents", [
        placeAtOnce,
      ]);
      const placed = { count: row?.placed ?? 0, head: Number(row?.head ?? 0), busy: row?.busy ?? false };
      const waitMs = busyMs[turn];
      if (!placed.busy || waitMs === undefined) return placed;
      await pause(clock, waitMs);
    }
  }

  async function readOnce(after: number, limit: number, pattern: string | null): Promise<RowPage> {
    const found = await database.run<EventRow | EndRow>("readLog", [String(after), limit, pattern, maxScanned]);
    // The last row says how far; where it leaves that open, it is as far as the event before it.
    const end = found.pop() as EndRow;
    const rows = found as EventRow[];
    const reached = end.event_position ?? rows.at(-1)?.event_position;
    return { rows, position: reached ? Number(reached) : after, more: end.more };
  }

  return {
    place,
    async read(after, limit, pattern) {
      const page = await readOnce(after, limit, pattern);
      if (page.more) return page;
      // Who has come to the end places what has no place yet: in a statement of its own, since only a position that has
      // committed may be handed out. Somebody else may have placed them meanwhile: nobody hints at that.
      const { count, head, busy } = await place();
      if (head <= page.position) return { ...page, more: busy };
      const again = await readOnce(after, limit, pattern);
      if (again.more) return again;
      // Where retention has taken the last events, the log is read up to where they were.
      return { ...again, position: Math.max(again.position, head), more: busy || count === placeAtOnce };
    },
  };
}

export interface ReadingLog {
  /**
   * Reads the log: every event of the store in one order, in which a stream's events are in theirs. Nothing ever appears
   * before a position that was read, so whoever keeps `position` and goes on from there misses nothing. Where several
   * processes follow the log, or one that may die, a reader with a stored checkpoint does that: see `startReader`.
   *
   * @throws TypeError and RangeError for options out of their limits, before any I/O; InvalidEventError.
   */
  readAll<const E extends EventParser = never>(options?: ReadAllOptions<E>): Promise<LogPage<ReadEvent<E>>>;
}

/** Without contracts every event is raw. */
export type ReadEvent<E extends EventParser> = [E] extends [never] ? RecordedEvent : ParsedEvent<E>;

export function createReadingLog(log: LogReader): ReadingLog {
  return {
    async readAll(options) {
      const attempt = "Cannot read events";
      requireKeys(attempt, options, readKeys);
      const { after = 0, topics, limit = 100, events: contracts } = options ?? {};
      const position = requirePosition(attempt, "after", after);
      requireInteger(attempt, "limit", limit, 1, maxLimit);
      const pattern = topicsPattern(attempt, topics);
      const parsers = requireParsers(attempt, contracts);
      const page = await log.read(position, limit, pattern);
      const events = await parseEvents(page.rows, parsers);
      return { events: events as never, position: page.position, more: page.more };
    },
  };
}

/** @throws TypeError and RangeError for what is no position. */
export function requirePosition(attempt: string, field: string, value: unknown): number {
  const isText = typeof value === "string" && /^\d{1,16}$/.test(value);
  const position = isText ? Number(value) : value;
  requireInteger(attempt, field, position, 0, Number.MAX_SAFE_INTEGER);
  return position as number;
}

/**
 * A regular expression for the topics that any of these patterns matches; null for all. It is looked for event by
 * event, of those that are read anyway; where subscriptions are looked for by topic, that is done by equality.
 *
 * @throws TypeError and RangeError for what is no pattern.
 */
export function topicsPattern(attempt: string, topics: unknown): string | null {
  if (topics === undefined) return null;
  const list: unknown = typeof topics === "string" ? [topics] : topics;
  if (!Array.isArray(list) || list.length === 0 || list.length > 100) {
    throw new TypeError(`${attempt}: topics must be a pattern, or a list of 1 to 100 patterns, got ${shown(topics)}`);
  }
  const alternatives = list.map((pattern: unknown) => {
    requirePattern(attempt, pattern);
    return onePattern(pattern);
  });
  return `^(?:${alternatives.join("|")})$`;
}

function onePattern(pattern: string): string {
  if (pattern === "#") return ".*";
  const levels = pattern.split(".");
  const hasRest = levels.at(-1) === "#";
  const written = levels
    .slice(0, hasRest ? -1 : undefined)
    .map((level) => (level === "*" ? "[^.]+" : level.replaceAll(/[^\p{L}\p{N}_-]/gu, "\\$&")))
    .join("\\.");
  return hasRest ? `${written}(?:\\..+)?` : written;
}
