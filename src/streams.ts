/** Reading the events of one stream. */
import type { Database } from "./database.ts";
import { type Keys, maxTopicLength, requireInteger, requireKeys, requireStoredText, shown } from "./limits.ts";
import type { ReadEvent } from "./read-log.ts";
import { type EventParser, type EventRow, parseEvents, requireParsers } from "./recorded-event.ts";

export interface ReadStreamOptions<E extends EventParser = EventParser> {
  /** The version to begin with, itself included. @default the first, or backwards the last */
  readonly from?: number | undefined;
  /** @default "forwards" */
  readonly direction?: "forwards" | "backwards" | undefined;
  /** Most events: 1 to 10,000. @default 1_000 */
  readonly limit?: number | undefined;
  /** Contracts whose schemas parse the data of their topics. @default none: data as it was given */
  readonly events?: readonly E[] | undefined;
}

const readKeys: Keys<ReadStreamOptions> = { from: true, direction: true, limit: true, events: true };

export interface ReadingStreams {
  /**
   * Reads the events of a stream, in the order of their versions or backwards. A stream that nobody has appended to is
   * empty. Fewer than `limit` events are all there are.
   *
   * @throws TypeError and RangeError for options out of their limits, before any I/O; InvalidEventError.
   */
  readStream<const E extends EventParser = never>(
    stream: string,
    options?: ReadStreamOptions<E>,
  ): Promise<readonly ReadEvent<E>[]>;
}

const maxLimit = 10_000;
const maxVersion = 2 ** 31 - 1;

export function createReadingStreams(database: Database): ReadingStreams {
  return {
    async readStream(stream, options) {
      const attempt = "Cannot read stream";
      requireKeys(attempt, options, readKeys);
      requireStoredText(attempt, "stream", stream, maxTopicLength);
      const { from, direction = "forwards", limit = 1_000, events } = options ?? {};
      if (from !== undefined) requireInteger(attempt, "from", from, 1, maxVersion);
      if (direction !== "forwards" && direction !== "backwards") {
        throw new TypeError(`${attempt}: direction must be "forwards" or "backwards", got ${shown(direction)}`);
      }
      requireInteger(attempt, "limit", limit, 1, maxLimit);
      const parsers = requireParsers(attempt, events);
      const backwards = direction === "backwards";
      const rows: EventRow[] = [];
      // One statement answers about 8 MB; where that cut it short, the next one goes on.
      for (let next = from ?? null; rows.length < limit; ) {
        const page = await database.run<EventRow & { cut: boolean }>("readStream", [
          stream,
          next,
          backwards,
          limit - rows.length,
        ]);
        rows.push(...page);
        const last = page.at(-1);
        if (last === undefined || !last.cut) break;
        next = (last.version as number) + (backwards ? -1 : 1);
      }
      return (await parseEvents(rows, parsers)) as never;
    },
  };
}
