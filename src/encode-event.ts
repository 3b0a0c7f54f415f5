/**
 * From an event to what publish sends: the text of one JSON object. As with commands, everything that can be wrong is
 * found here, before any I/O, and the data is written down before its schema sees it.
 */
import { encodeAll } from "./batch.ts";
import type { Metadata } from "./command.ts";
import { type AnyEventContract, isEventContract, isNewEvent, type NewEvent } from "./define-event.ts";
import { encodeMetadata, issuesOf, isWalkable, merged } from "./encode-command.ts";
import { type JsonText, toJson, utf8Bytes } from "./json.ts";
import { maxEventBytes, shown } from "./limits.ts";
import { isUuid, uuidv7 } from "./uuid.ts";
import { formatIssues, type Issue, validate } from "./validate.ts";

/** An event as the database takes it. */
export interface EncodedEvent {
  readonly id: string;
  readonly topic: string;
  /** One object with the keys id, topic, data (or null_data) and metadata. */
  readonly json: string;
  /** The size of `json` as UTF-8, or some more. */
  readonly bytes: number;
  /** Whether the caller chose the id: such an event may be a repeat, and is never put into a batch with others. */
  readonly chosenId: boolean;
}

/** What an event is encoded with, beside itself. */
export interface EncodeEventOptions {
  /** Metadata for what the event does not say. */
  readonly defaults?: Metadata | undefined;
  /** What comes from the command that publishes it. */
  readonly inherited?: Metadata | undefined;
  /** The command whose outcome it commits with: such an event cannot choose its id. */
  readonly parentId?: string | undefined;
  /** A new id that this process made beforehand, for an event whose caller chose none. */
  readonly newId?: string | undefined;
}

/** Thrown where an event's data is refused, by its schema or because JSON would change it. */
export class InvalidDataError extends Error {
  override readonly name: string = "InvalidDataError";
  readonly code: string = "ORCHESTRATUM_INVALID_DATA";
  readonly topic: string;
  /** Everything that is wrong, at least one. */
  readonly issues: readonly Issue[];

  constructor(topic: string, issues: readonly Issue[]) {
    super(`Cannot publish event "${topic}": its data is invalid: ${formatIssues(issues)}`);
    this.topic = topic;
    this.issues = issues;
  }
}

const noData: JsonText = { json: "", bytes: 0 };

/** What an event's JSON has beside its topic, data and metadata: keys, punctuation and two ids, all of ASCII. */
const frameBytes = 160;
/** Topics as they are written, with their sizes: there are few, and they come again with every event. */
const writtenTopics = new WeakMap<AnyEventContract, JsonText>();

function writtenTopic(contract: AnyEventContract): JsonText {
  let written = writtenTopics.get(contract);
  if (written === undefined) {
    const json = JSON.stringify(contract.topic);
    written = { json, bytes: utf8Bytes(json) };
    writtenTopics.set(contract, written);
  }
  return written;
}

/**
 * Validates an event and writes it as JSON; answers at once where the schema does.
 *
 * @throws InvalidDataError with every issue; TypeError or RangeError for what is no event and for options out of their
 * limits.
 */
export function encodeEvent(event: NewEvent, options: EncodeEventOptions = {}): EncodedEvent | Promise<EncodedEvent> {
  requireEvent(event);
  const { contract, data } = event;
  const { topic } = contract;
  const attempt = `Cannot publish event "${topic}"`;
  const chosenId = event.options.id !== undefined;
  if (chosenId && options.parentId !== undefined) {
    throw new TypeError(
      `${attempt}: an event of a handler's cannot choose its id: one that stands in somebody's open transaction would ` +
        "make the outcome wait for it. Leave it out",
    );
  }
  if (chosenId && !isUuid(event.options.id)) {
    throw new TypeError(`${attempt}: id must be a UUID, got ${shown(event.options.id)}`);
  }
  const id = event.options.id?.toLowerCase() ?? options.newId ?? uuidv7();
  const layers = [options.inherited, options.defaults, event.options.metadata];
  const metadata = encodeMetadata(attempt, layers, options.inherited !== undefined);
  const text = data === undefined ? noData : toJson(data, maxEventBytes);

  const encoded = (issues: readonly Issue[]): EncodedEvent => {
    if (text.issues !== undefined || issues.length > 0) {
      throw new InvalidDataError(topic, merged(text.issues ?? [], issues));
    }
    const written = writtenTopic(contract);
    let json = `{"id":"${id}","topic":${written.json}`;
    if (options.parentId !== undefined) json += `,"parent_id":"${options.parentId}"`;
    // In a row of json_to_recordset JSON's null would be no data at all.
    if (text.json === "null") json += ',"null_data":true';
    else if (text.json !== "") json += `,"data":${text.json}`;
    if (metadata !== undefined) json += `,"metadata":${metadata.json}`;
    json += "}";
    const bytes = frameBytes + written.bytes + text.bytes + (metadata?.bytes ?? 0);
    return { id, topic, json, bytes, chosenId };
  };

  if (contract.data === undefined || !isWalkable(text)) return encoded([]);
  const result = validate(contract.data, data);
  return result instanceof Promise ? result.then((late) => encoded(issuesOf(late))) : encoded(issuesOf(result));
}

/**
 * Encodes a list, or one event.
 *
 * @throws as encodeEvent, before anything is sent.
 */
export async function encodeEvents(
  attempt: string,
  given: unknown,
  options: EncodeEventOptions = {},
): Promise<EncodedEvent[]> {
  const list = (Array.isArray(given) ? given : [given]) as NewEvent[];
  const encoded = await encodeAll(list, (event) => encodeEvent(event, options));
  // Only a caller's can come twice, and looking at each takes as long as making it.
  if (encoded.some(({ chosenId }) => chosenId) && new Set(encoded.map(({ id }) => id)).size < encoded.length) {
    throw new TypeError(`${attempt}: two of the events have one id`);
  }
  return encoded;
}

function requireEvent(value: unknown): void {
  if (isNewEvent(value)) return;
  if (isEventContract(value)) {
    throw new TypeError(`Cannot publish event "${value.topic}": it is a contract that nobody called, give it its data`);
  }
  throw new TypeError(`Cannot publish: an event is what a contract of events answers, got ${shown(value)}`);
}
