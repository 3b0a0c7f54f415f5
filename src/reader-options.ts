/** The options of a reader, their defaults and their limits. */
import { type Backoff, type BackoffOptions, requireBackoff } from "./backoff.ts";
import {
  type Keys,
  maxTimeoutMs,
  requireFunction,
  requireInteger,
  requireKeys,
  requireMs,
  requireText,
  shown,
} from "./limits.ts";
import { type LogPosition, type ReadEvent, requirePosition, topicsPattern } from "./read-log.ts";
import type { ReaderContext } from "./reader-lease.ts";
import { type EventParser, type EventParsers, type RecordedEvent, requireParsers } from "./recorded-event.ts";

export interface ReaderOptions<E extends EventParser = never> {
  /** Of the projection, 1 to 200 characters. All processes that give it share one checkpoint, and one of them reads. */
  readonly name: string;
  /** Deals with some events, in the order of the log. It may get a batch again: see `checkpoint`. */
  readonly handle: (events: readonly ReadEvent<E>[], context: ReaderContext) => unknown;
  /** Most events of one batch: 1 to 1,000. @default 100 */
  readonly batchSize?: number | undefined;
  /** Where a reader begins that nobody has started before: a position is the last event left out. @default "beginning" */
  readonly from?: "beginning" | "now" | LogPosition | undefined;
  /** Patterns of topics: `orders.events.*` (one level), `orders.#` (any number, only at the end). @default every topic */
  readonly topics?: string | readonly string[] | undefined;
  /** Contracts whose schemas parse the data of their topics. @default none: data as it was given */
  readonly events?: readonly E[] | undefined;
  /** How often the log is looked at where no notification comes, in ms, 10 to 3,600,000. @default 1_000 */
  readonly pollIntervalMs?: number | undefined;
  /** After how long another process goes on where this one is not heard of, in ms, 1,000 to 600,000. @default 10_000 */
  readonly leaseMs?: number | undefined;
  /** How long the handler may take over a batch, in ms: then its signal is aborted, and the batch has failed. @default 300_000 */
  readonly timeoutMs?: number | undefined;
  /** How long the reader waits after a failed batch. @default from 1 s, doubled up to a minute, with full jitter */
  readonly backoff?: Backoff | undefined;
}

const readerKeys: Keys<ReaderOptions> = {
  name: true,
  handle: true,
  batchSize: true,
  from: true,
  topics: true,
  events: true,
  pollIntervalMs: true,
  leaseMs: true,
  timeoutMs: true,
  backoff: true,
};

export interface ResolvedReaderOptions {
  readonly name: string;
  readonly handle: (events: readonly RecordedEvent[], context: ReaderContext) => unknown;
  readonly batchSize: number;
  /** Undefined: the newest. */
  readonly from: number | undefined;
  readonly pattern: string | null;
  readonly parsers: EventParsers;
  readonly pollIntervalMs: number;
  readonly leaseMs: number;
  readonly timeoutMs: number;
  readonly backoff: Backoff;
}

const defaultBackoff: BackoffOptions = { initialMs: 1_000, factor: 2, maxMs: 60_000, jitter: "full" };
const maxNameLength = 200;

/** @throws TypeError and RangeError, before any I/O. */
export function resolveReaderOptions(options: ReaderOptions<EventParser>): ResolvedReaderOptions {
  const attempt = "Cannot start reader";
  if (typeof options !== "object" || options === null || Array.isArray(options)) {
    throw new TypeError(`${attempt}: options must be an object with a name and a handle, got ${shown(options)}`);
  }
  requireKeys(attempt, options, readerKeys);
  const { name, handle, batchSize = 100, from = "beginning", pollIntervalMs = 1_000, leaseMs = 10_000 } = options;
  const { timeoutMs = 300_000, backoff = defaultBackoff } = options;
  requireReaderName(attempt, name);
  requireFunction(attempt, "handle", handle);
  requireInteger(attempt, "batchSize", batchSize, 1, 1_000);
  requireInteger(attempt, "pollIntervalMs", pollIntervalMs, 10, 3_600_000);
  requireInteger(attempt, "leaseMs", leaseMs, 1_000, 600_000);
  requireMs(attempt, "timeoutMs", timeoutMs, maxTimeoutMs);
  requireBackoff(attempt, backoff);
  return {
    ...{ name, batchSize, pollIntervalMs, leaseMs, timeoutMs, backoff },
    handle: handle as ResolvedReaderOptions["handle"],
    from: fromPosition(attempt, from),
    pattern: topicsPattern(attempt, options.topics),
    parsers: requireParsers(attempt, options.events),
  };
}

/** A position to begin after; undefined for the newest. */
function fromPosition(attempt: string, from: unknown): number | undefined {
  if (from === "now") return undefined;
  return from === "beginning" ? 0 : requirePosition(attempt, "from", from);
}

export function requireReaderName(attempt: string, name: unknown): void {
  requireText(attempt, "name", name, maxNameLength);
  if (/\p{Cc}/u.test(name as string)) {
    throw new RangeError(`${attempt}: name must be free of control characters, got ${shown(name)}`);
  }
}
