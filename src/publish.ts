/**
 * Publishing events, and appending them to streams. The statement that writes an event pushes a command for each
 * subscription that it matches, so what has committed is delivered, and nothing else is. Without a stream nothing is
 * locked; concurrent calls coalesce as pushes do. A stream's row is locked until its transaction ends, and is what
 * decides whether an append met the version that it expected.
 */
import { batchJson, conflictingId, createBatches } from "./batch.ts";
import type { Clock } from "./clock.ts";
import type { Metadata } from "./command.ts";
import { type Database, patiently, sqlState } from "./database.ts";
import { isNewEvent, type NewEvent } from "./define-event.ts";
import type { Queryable } from "./driver.ts";
import { type EncodedEvent, encodeEvents } from "./encode-event.ts";
import { type Due, earliest, type Hints } from "./hints.ts";
import {
  type Keys,
  maxBatchBytes,
  maxBatchCommands,
  maxTopicLength,
  requireDb,
  requireInteger,
  requireKeys,
  requireStoredText,
  shown,
} from "./limits.ts";
import type { Observer } from "./observation.ts";

export interface PublishOptions {
  /** The caller's open transaction, as an adapter gives it: the events, and their deliveries, commit with it. @default none */
  readonly db?: Queryable | undefined;
  /** For all events of the call; an event's own is laid over it key by key. @default none */
  readonly metadata?: Metadata | undefined;
}

export interface AppendOptions extends PublishOptions {
  /** The version that the stream must be at: 0 for a new one. @default any */
  readonly expectedVersion?: number | undefined;
}

const publishKeys: Keys<PublishOptions> = { db: true, metadata: true };
const appendKeys: Keys<AppendOptions> = { ...publishKeys, expectedVersion: true };

/** An event that was published. */
export interface Published {
  readonly id: string;
}

/** What an append came to. */
export interface Appended {
  /** Of the stream, with these events. */
  readonly version: number;
  /** Of the events, in order. */
  readonly ids: readonly string[];
}

/** What a handler's `finish(db, output, { append })` appends. */
export interface StreamAppend {
  /** 1 to 200 characters. */
  readonly stream: string;
  /** At least one, at most 1,000. */
  readonly events: NewEvent | readonly NewEvent[];
  /** The version that the stream must be at: 0 for a new one. @default any */
  readonly expectedVersion?: number | undefined;
}

const streamAppendKeys: Keys<StreamAppend> = { stream: true, events: true, expectedVersion: true };

export interface Publishing {
  /**
   * Publishes events: each is delivered, at least once and in no order, to every subscription with a pattern for its
   * topic. Everything is validated before any I/O. Up to 1,000 events and 8 MB of one call are one statement, all or
   * nothing; of more, each such part commits for itself, unless `db` holds them together. A repeat with the same ids
   * doubles nothing.
   *
   * @throws InvalidDataError with every issue; TypeError and RangeError for what is no event and for options out of their
   * limits; EventConflictError for an id that was published before with another topic or other data.
   */
  publish(event: NewEvent, options?: PublishOptions): Promise<Published>;
  publish(events: readonly NewEvent[], options?: PublishOptions): Promise<Published[]>;

  /**
   * Appends events to a stream, 1 to 1,000 and 8 MB, all or nothing, and delivers them as `publish` does. The stream's
   * row is locked until the transaction ends: whoever appends to several streams in one takes them in the order of their
   * names. It can be repeated after a lost reply where the events' ids were chosen, with all of its events; within the
   * call the library does so.
   *
   * @throws StreamConflictError where the stream is at another version: nothing was written, and the caller's transaction
   * can go on. EventConflictError where a chosen id stands for another event, or some of the events are there and others
   * are not. As publish does for the rest.
   */
  append(stream: string, events: NewEvent | readonly NewEvent[], options?: AppendOptions): Promise<Appended>;
}

/** A stream is at another version than was expected. Nothing was written, and the transaction can go on. */
export class StreamConflictError extends Error {
  readonly code = "ORCHESTRATUM_STREAM_CONFLICT";
  override readonly name = "StreamConflictError";
  readonly stream: string;
  readonly expectedVersion: number | undefined;
  /** Where the stream is, as far as this transaction sees it. */
  readonly currentVersion: number;
  constructor(stream: string, expectedVersion: number | undefined, currentVersion: number) {
    super(
      `Cannot append to stream "${stream}": it is at version ${currentVersion}, and ${expectedVersion} was expected: read it, decide anew and append again`,
    );
    this.stream = stream;
    this.expectedVersion = expectedVersion;
    this.currentVersion = currentVersion;
  }
}

/** An id that the caller chose stands for another event already: of another topic, other data, or in another place. */
export class EventConflictError extends Error {
  readonly code = "ORCHESTRATUM_EVENT_CONFLICT";
  override readonly name = "EventConflictError";
  /** The id that was published before. */
  readonly id: string | undefined;
  constructor(verb: "publish" | "append", id: string | undefined, cause: unknown) {
    super(
      verb === "publish"
        ? `Cannot publish ${namedBy(id)}: its id was published before with another topic or data, or appended to a stream`
        : `Cannot append ${namedBy(id)}: its id stands for another event, or for one that was appended with others: repeat a call with all of its events, or choose new ids`,
      { cause },
    );
    this.id = id;
  }
}

const namedBy = (id: string | undefined): string => (id === undefined ? "an event" : `event ${id}`);

/** What the functions raise for {@link EventConflictError}. */
const conflictState = "OR002";
const uniqueViolation = "23505";

interface PublishRow extends Due {
  readonly transaction_id?: string;
}

interface AppendRow extends Due {
  readonly version: number | null;
  readonly transaction_id: string;
}

interface AppendAllRow extends Due {
  readonly stream: string | null;
  readonly version: number;
  readonly conflict: boolean;
  readonly transaction_id: string;
}

/** What publishing works with. */
export interface PublishParts {
  readonly database: Database;
  readonly clock: Clock;
  readonly hints: Hints;
  readonly report: Observer;
}

export function createPublishing({ database, clock, hints, report }: PublishParts): Publishing {
  async function send(events: readonly EncodedEvent[], chosen: boolean): Promise<void> {
    const json = batchJson(events);
    try {
      const rows = await patiently("publishBatch", { clock, report }, (again, deadlineMs) => {
        return database.run<PublishRow>("publishBatch", [json, chosen || again], { deadlineMs });
      });
      hints.due(earliest(rows));
    } catch (error) {
      throw conflictOr("publish", error);
    }
  }

  async function sendWithin(db: Queryable, events: readonly EncodedEvent[]): Promise<void> {
    const chosen = events.some((event) => event.chosenId);
    try {
      const rows = await database.run<PublishRow>("publishBatchWithin", [batchJson(events), chosen], { db });
      hintAfter(hints, rows);
    } catch (error) {
      throw conflictOr("publish", error);
    }
  }

  const write = createBatches({ send, sendWithin });

  async function publish(
    given: NewEvent | readonly NewEvent[],
    options?: PublishOptions,
  ): Promise<Published | Published[]> {
    // Told before the options are: in `publish("a", { b: 1 })` they are not what is wrong.
    if (!isNewEvent(given) && !Array.isArray(given)) await encodeEvents("Cannot publish", given);
    requireKeys("Cannot publish", options, publishKeys);
    const { db, metadata } = options ?? {};
    requireDb("Cannot publish", db);
    const events = await encodeEvents("Cannot publish", given, { defaults: metadata });
    await write(events, db);
    const published = events.map(({ id }) => ({ id }));
    return isNewEvent(given) ? (published[0] as Published) : published;
  }

  async function append(
    stream: string,
    given: NewEvent | readonly NewEvent[],
    options?: AppendOptions,
  ): Promise<Appended> {
    const attempt = attemptOf(stream);
    requireKeys(attempt, options, appendKeys);
    const { db, metadata, expectedVersion } = options ?? {};
    requireExpected(attempt, expectedVersion);
    requireDb(attempt, db);
    const events = await encodeEvents(attempt, given, { defaults: metadata });
    requireSize(attempt, events);
    const ids = events.map(({ id }) => id);
    const chosen = events.some((event) => event.chosenId);
    const params = [stream, expectedVersion ?? null, batchJson(events)];
    const once = (again: boolean, how: { db?: Queryable; deadlineMs?: number }) =>
      database.run<AppendRow>(chosen || again ? "appendAgain" : "append", params, how);
    let rows: AppendRow[];
    try {
      rows = db
        ? await once(false, { db })
        : await patiently("append", { clock, report }, (again, deadlineMs) => once(again, { deadlineMs }));
    } catch (error) {
      // The stream's own row is no conflict of ids; those of events can only be the caller's.
      if (chosen && sqlState(error) === uniqueViolation) throw new EventConflictError("append", undefined, error);
      throw conflictOr("append", error);
    }
    const head = rows.find(({ version }) => version !== null);
    if (head === undefined) {
      const [current] = await database.run<{ version: number }>("streamVersion", [stream], { db });
      throw new StreamConflictError(stream, expectedVersion, current?.version ?? 0);
    }
    if (db) hintAfter(hints, rows);
    else hints.due(earliest(rows.filter(({ queue }) => queue !== null)));
    return { version: head.version as number, ids };
  }

  return { publish: publish as Publishing["publish"], append };
}

/** What a handler appends with its outcome, written down. */
export interface EncodedAppend {
  readonly stream: string;
  readonly expectedVersion: number | undefined;
  readonly events: readonly EncodedEvent[];
  readonly json: string;
}

/**
 * Validates what a handler appends with its outcome.
 *
 * @throws as {@link Publishing.append}, before any I/O.
 */
export async function encodeAppends(
  attempt: string,
  appends: unknown,
  options: { readonly inherited: Metadata; readonly parentId: string },
): Promise<EncodedAppend[]> {
  if (!Array.isArray(appends)) {
    throw new TypeError(`${attempt}: append must be a list of { stream, events }, got ${shown(appends)}`);
  }
  const encoded: EncodedAppend[] = [];
  for (const one of appends as readonly (StreamAppend | null | undefined)[]) {
    if (typeof one !== "object" || one === null) {
      throw new TypeError(`${attempt}: append must be a list of { stream, events }, got ${shown(one)} in it`);
    }
    const { stream, expectedVersion } = one;
    const within = attemptOf(stream);
    requireKeys(within, one, streamAppendKeys);
    requireExpected(within, expectedVersion);
    const events = await encodeEvents(within, one.events, options);
    requireSize(within, events);
    const version = expectedVersion === undefined ? "" : `,"expected_version":${expectedVersion}`;
    const json = `{"stream":${JSON.stringify(stream)}${version},"events":${batchJson(events)}}`;
    encoded.push({ stream, expectedVersion, events, json });
  }
  return encoded;
}

/**
 * Appends within the handler's transaction, all or none.
 *
 * @throws StreamConflictError; the transaction can go on.
 */
export async function appendWithin(
  database: Database,
  hints: Hints,
  db: Queryable,
  appends: readonly EncodedAppend[],
): Promise<void> {
  const json = `[${appends.map((append) => append.json).join(",")}]`;
  const rows = await database.run<AppendAllRow>("appendAll", [json], { db });
  const conflict = rows.find((row) => row.conflict);
  if (conflict?.stream) {
    const expected = appends.find(({ stream, expectedVersion }) => {
      return stream === conflict.stream && expectedVersion !== undefined && expectedVersion !== conflict.version;
    });
    throw new StreamConflictError(conflict.stream, expected?.expectedVersion, conflict.version);
  }
  hintAfter(hints, rows);
}

/** Hints when the transaction that answered these rows has committed. */
function hintAfter(hints: Hints, rows: readonly (Due & { readonly transaction_id?: string })[]): void {
  const dues = rows.filter(({ queue }) => queue !== null);
  const [due] = dues;
  if (due?.transaction_id !== undefined) hints.dueAfter(due.transaction_id, earliest(dues));
}

/** What cannot be done where something is wrong with an append. */
function attemptOf(stream: unknown): string {
  requireStoredText("Cannot append", "stream", stream, maxTopicLength);
  return `Cannot append to stream "${stream}"`;
}

function requireExpected(attempt: string, expectedVersion: unknown): void {
  if (expectedVersion !== undefined) requireInteger(attempt, "expectedVersion", expectedVersion, 0, 2 ** 31 - 1);
}

function requireSize(attempt: string, events: readonly EncodedEvent[]): void {
  if (events.length === 0) throw new RangeError(`${attempt}: events must be at least one, got none`);
  let bytes = 0;
  for (const event of events) bytes += event.bytes;
  if (events.length <= maxBatchCommands && bytes <= maxBatchBytes) return;
  throw new RangeError(
    `${attempt}: events must be at most ${maxBatchCommands} and ${maxBatchBytes} bytes, got ${events.length} and ${bytes}: append them in parts`,
  );
}

function conflictOr(verb: "publish" | "append", error: unknown): unknown {
  if (sqlState(error) !== conflictState) return error;
  return new EventConflictError(verb, conflictingId(error), error);
}
