/** An event as the store gives it, and the one place that makes it of a row. */
import type { Metadata } from "./command.ts";
import { shown } from "./limits.ts";
import { parseTime } from "./outcome.ts";
import type { StandardSchemaV1 } from "./standard-schema.ts";
import { formatIssues, type Issue, type Validated, validate } from "./validate.ts";

/** An event that was appended or published: a fact, which never changes. */
export interface RecordedEvent<Data = unknown> {
  readonly id: string;
  readonly topic: string;
  /** As it was given; as the schema of its contract answers it, where contracts are given. Undefined where it has none. */
  readonly data: Data;
  readonly metadata: Metadata;
  /** Undefined where it was published to no stream. */
  readonly stream: string | undefined;
  /** Its place in its stream, from 1. */
  readonly version: number | undefined;
  /** Its place in the log, from 1; undefined where it was read from its stream. */
  readonly position: number | undefined;
  readonly appendedAt: Date;
}

/**
 * Metadata for what an event causes where no delivery hands it on, as in a reader's handler: the event's own (its
 * correlation, its actor and the rest), with the event as the cause.
 *
 * @example
 * await orchestrator.push(sendInvoice({ orderId }), { metadata: causedBy(event) });
 */
export function causedBy({ id, metadata }: Pick<RecordedEvent, "id" | "metadata">): Metadata {
  return { ...metadata, causationId: id };
}

/** What tells events apart, and parses their data: a contract of `defineEvent`. */
export interface EventParser {
  readonly topic: string;
  readonly data?: StandardSchemaV1 | undefined;
}

/** What a read gives when it was given contracts: their events typed, and those of other topics with `unknown` data. */
export type ParsedEvent<E extends EventParser> = E extends { readonly topic: infer T; readonly data: infer S }
  ? RecordedEvent<S extends StandardSchemaV1 ? StandardSchemaV1.InferOutput<S> : unknown> & { readonly topic: T }
  : RecordedEvent;

export interface EventRow {
  readonly event_position?: string | null;
  readonly id: string;
  readonly stream: string | null;
  readonly version: number | null;
  readonly topic: string;
  readonly data: string | null;
  readonly metadata: string | null;
  readonly appended_at: string;
}

/** The data of an event is not what its contract's schema takes. The event is there, with its data as it was given. */
export class InvalidEventError extends Error {
  readonly code = "ORCHESTRATUM_INVALID_EVENT";
  override readonly name = "InvalidEventError";
  readonly event: RecordedEvent;
  readonly issues: readonly Issue[];

  constructor(event: RecordedEvent, issues: readonly Issue[]) {
    super(`Cannot read event ${event.id} of topic "${event.topic}": its data is invalid: ${formatIssues(issues)}`);
    this.event = event;
    this.issues = issues;
  }
}

export function recordedEvent(row: EventRow, appendedAt: Date = parseTime(row.appended_at)): RecordedEvent {
  const metadata = row.metadata === null ? undefined : (JSON.parse(row.metadata) as Metadata | null);
  return {
    id: row.id,
    topic: row.topic,
    data: row.data === null ? undefined : JSON.parse(row.data),
    metadata: metadata ? { correlationId: row.id, ...metadata } : { correlationId: row.id },
    stream: row.stream ?? undefined,
    version: row.version ?? undefined,
    position: row.event_position === undefined || row.event_position === null ? undefined : Number(row.event_position),
    appendedAt,
  };
}

/** By topic, what parses. */
export type EventParsers = ReadonlyMap<string, EventParser>;

/** @throws TypeError for what is no list of contracts of events. */
export function requireParsers(attempt: string, events: unknown): EventParsers {
  if (events === undefined) return new Map();
  const isParser = (value: unknown): value is EventParser => {
    const isThing = (typeof value === "object" && value !== null) || typeof value === "function";
    return isThing && typeof (value as { topic?: unknown }).topic === "string";
  };
  if (!Array.isArray(events)) {
    throw new TypeError(
      `${attempt}: events must be a list of contracts, as defineEvent makes them, got ${shown(events)}`,
    );
  }
  const wrong = events.findIndex((event) => !isParser(event));
  if (wrong >= 0) {
    throw new TypeError(
      `${attempt}: events[${wrong}] must be a contract, as defineEvent makes it, got ${shown(events[wrong])}`,
    );
  }
  return new Map((events as EventParser[]).map((event) => [event.topic, event]));
}

/** @throws InvalidEventError for the first whose data its contract refuses. */
export async function parseEvents(rows: readonly EventRow[], parsers: EventParsers): Promise<RecordedEvent[]> {
  const events: RecordedEvent[] = [];
  // Events of one statement have one time: a text that was just parsed is not parsed again.
  let [timeText, time] = ["", 0];
  for (const row of rows) {
    if (row.appended_at !== timeText) {
      timeText = row.appended_at;
      time = parseTime(timeText).getTime();
    }
    const event = parsedEvent(recordedEvent(row, new Date(time)), parsers);
    events.push(event instanceof Promise ? await event : event);
  }
  return events;
}

/**
 * An event with its data as the contract of its topic answers it; at once where the contract's schema does.
 *
 * @throws InvalidEventError where the contract refuses it.
 */
export function parsedEvent(event: RecordedEvent, parsers: EventParsers): RecordedEvent | Promise<RecordedEvent> {
  const schema = parsers.get(event.topic)?.data;
  if (schema === undefined) return event;
  const parsed = (result: Validated<unknown>): RecordedEvent => {
    if (result.issues) throw new InvalidEventError(event, result.issues);
    return { ...event, data: result.value };
  };
  const result = validate(schema, event.data);
  return result instanceof Promise ? result.then(parsed) : parsed(result);
}
