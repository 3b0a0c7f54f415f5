/**
 * From a command to what push sends: the text of one JSON object. Everything that can be wrong with a command is found
 * here, before any I/O. The input is written down before the schema sees it: what is stored is what the caller gave,
 * whatever a schema makes of it and whatever the caller does to it afterwards.
 */

import { type Command, type CommandOptions, isCommand, isKind, type Metadata, requireOptions } from "./command.ts";
import type { AnyContract } from "./define-command.ts";
import { type JsonRefusal, type JsonText, toJson, utf8Bytes } from "./json.ts";
import { maxInputBytes, maxMetadataBytes, shown } from "./limits.ts";
import { isUuid, uuidv7 } from "./uuid.ts";
import { formatIssues, type Issue, type Validated, validate } from "./validate.ts";

/** A command as the database takes it. */
export interface EncodedCommand {
  readonly id: string;
  readonly name: string;
  readonly queue: string;
  /**
   * One object with the keys id, name, version, queue, priority, due_at or delay_ms, max_attempts, timeout_ms, input
   * and metadata. What is as the database assumes it is left out.
   */
  readonly json: string;
  /** The size of `json` as UTF-8. */
  readonly bytes: number;
  /** Whether the caller chose the id: such a push may be a repeat, and is never put into a batch with others. */
  readonly chosenId: boolean;
}

/** What a command is encoded with, beside itself. */
export interface EncodeOptions {
  /** Options for what the command does not say. An id is not among them: it belongs to one command. */
  readonly defaults?: CommandOptions | undefined;
  /** What comes from the parent; the command's own metadata is laid over it key by key. */
  readonly inherited?: Metadata | undefined;
  /** Whether it commits with the outcome of another one, and so cannot choose its id. */
  readonly followUp?: boolean | undefined;
  /** A new id that this process made beforehand, for a command whose caller chose none. */
  readonly newId?: string | undefined;
}

/** Thrown where a command's input is refused, by its schema or because JSON would change it. `attempt` is what was tried. */
export class InvalidInputError extends Error {
  override readonly name: string = "InvalidInputError";
  readonly code: string = "ORCHESTRATUM_INVALID_INPUT";
  /** The name of the command. */
  readonly command: string;
  /** Everything that is wrong, at least one. */
  readonly issues: readonly Issue[];

  constructor(command: string, issues: readonly Issue[], attempt: string = "push") {
    super(`Cannot ${attempt} command "${command}": its input is invalid: ${formatIssues(issues)}`);
    this.command = command;
    this.issues = issues;
  }
}

/**
 * Validates a command and writes it as JSON; answers at once where the schema does. Options count in this order: the
 * command's, the defaults', the contract's.
 *
 * @throws InvalidInputError with every issue; TypeError or RangeError for what is no command and for options that are
 * out of their limits.
 */
export function encodeCommand(command: Command, options: EncodeOptions = {}): EncodedCommand | Promise<EncodedCommand> {
  requireCommand(command);
  const { contract, input } = command;
  // All but the input first: it is cheap, and a schema may take its time.
  const head = encodeHead(command, options);
  const metadata = encodeMetadata(
    `Cannot push command "${contract.name}"`,
    [options.inherited, options.defaults?.metadata, command.options.metadata],
    options.inherited !== undefined,
  );
  const text = input === undefined ? noInput : toJson(input, maxInputBytes);

  const encoded = (issues: readonly Issue[]): EncodedCommand => {
    if (text.issues !== undefined || issues.length > 0) {
      throw new InvalidInputError(contract.name, merged(text.issues ?? [], issues));
    }
    const { id, queue, chosenId, json } = head;
    let bytes = utf8Bytes(json) + 1;
    let whole = json;
    if (text.json !== "") {
      // In a row of json_to_recordset JSON's null would be no input at all.
      const member = text.json === "null" ? ',"null_input":true' : `,"input":${text.json}`;
      bytes += text.json === "null" ? member.length : ',"input":'.length + text.bytes;
      whole += member;
    }
    if (metadata !== undefined) {
      whole += `,"metadata":${metadata.json}`;
      bytes += ',"metadata":'.length + metadata.bytes;
    }
    return { id, name: contract.name, queue, json: `${whole}}`, bytes, chosenId };
  };

  // A schema may not survive a walk through a cycle or 50,000 levels; what else is wrong it may add to.
  if (contract.input === undefined || !isWalkable(text)) return encoded([]);
  const result = validate(contract.input, input);
  return result instanceof Promise ? result.then((late) => encoded(issuesOf(late))) : encoded(issuesOf(result));
}

/**
 * Writes a corrected input for a command that is there already as JSON, validated where its contract is known.
 *
 * @throws InvalidInputError with every issue.
 */
export async function encodeInput(
  attempt: string,
  name: string,
  contract: AnyContract | undefined,
  input: unknown,
): Promise<string> {
  const text = toJson(input, maxInputBytes);
  const late = contract?.input === undefined || !isWalkable(text) ? undefined : await validate(contract.input, input);
  const issues = merged(text.issues ?? [], late === undefined ? [] : issuesOf(late));
  if (text.issues !== undefined || issues.length > 0) throw new InvalidInputError(name, issues, attempt);
  return text.json;
}

/** A command without input has no such key. */
const noInput: JsonText = { json: "", bytes: 0 };

export function isWalkable(text: JsonText | JsonRefusal): boolean {
  return text.issues === undefined || text.walkable;
}

export function issuesOf(result: Validated<unknown>): readonly Issue[] {
  return result.issues ?? [];
}

/** All issues; of two at one place the first, which says how such a thing travels. */
export function merged(first: readonly Issue[], second: readonly Issue[]): readonly Issue[] {
  const paths = new Set(first.map(({ path }) => path));
  return [...first, ...second.filter(({ path }) => !paths.has(path))];
}

function requireCommand(value: unknown): void {
  if (isCommand(value)) return;
  if (isKind(value, "contract")) {
    const { name } = value as { readonly name: string };
    throw new TypeError(`Cannot push command "${name}": it is a contract that nobody called, give it an input`);
  }
  throw new TypeError(`Cannot push: a command is what a contract answers when it is called, got ${shown(value)}`);
}

interface Head {
  readonly id: string;
  readonly queue: string;
  readonly chosenId: boolean;
  /** The object up to its input, without the closing brace. */
  readonly json: string;
}

/** Everything but input and metadata. What `command_rows` in SQL assumes by itself is left out, to save bytes. */
function encodeHead(command: Command, { defaults = none, followUp = false, newId }: EncodeOptions): Head {
  const { contract, options } = command;
  const attempt = `Cannot push command "${contract.name}"`;
  requireOptions(attempt, options);
  if (defaults !== none) requireOptions(attempt, defaults);
  if (defaults.id !== undefined) {
    throw new TypeError(`${attempt}: an id belongs to one command, so it cannot be a default: give it to the command`);
  }

  const chosenId = options.id !== undefined;
  if (chosenId && followUp) {
    throw new TypeError(
      `${attempt}: a follow-up cannot choose its id: one that stands in somebody's open transaction would make the ` +
        "outcome wait for it. Leave it out",
    );
  }
  if (chosenId && !isUuid(options.id)) {
    throw new TypeError(`${attempt}: id must be a UUID, got ${shown(options.id)}`);
  }
  const id = options.id?.toLowerCase() ?? newId ?? uuidv7();

  const queue = options.queue ?? defaults.queue ?? contract.defaults.queue;
  const priority = options.priority ?? defaults.priority ?? contract.defaults.priority;
  const timeoutMs = options.timeoutMs ?? defaults.timeoutMs ?? contract.defaults.timeoutMs;
  const maxAttempts = (options.retries ?? defaults.retries ?? contract.defaults.retries) + 1;
  // The two ways to say when are one option: a delay of the command's replaces a time that the defaults name.
  const when = options.runAt === undefined && options.delayMs === undefined ? defaults : options;

  let json = `{"id":"${id}","name":${JSON.stringify(contract.name)}`;
  if (contract.version !== 1) json += `,"version":${contract.version}`;
  if (queue !== "default") json += `,"queue":${JSON.stringify(queue)}`;
  if (priority !== 5) json += `,"priority":${priority}`;
  if (when.runAt !== undefined) json += `,"due_at":"${when.runAt.toISOString()}"`;
  // Whole ms, as the database wants them, and never earlier than asked for.
  else if (when.delayMs !== undefined && when.delayMs > 0) json += `,"delay_ms":${Math.ceil(when.delayMs)}`;
  if (maxAttempts !== 4) json += `,"max_attempts":${maxAttempts}`;
  if (timeoutMs !== 60_000) json += `,"timeout_ms":${timeoutMs}`;
  return { id, queue, chosenId, json };
}

const none: CommandOptions = Object.freeze({});

/** Room for a correlation id and a causation id. */
const inheritedIdsBytes = 200;

/** Room for a trace context, of which W3C wants 512 characters of state to be carried: tracing must not fail a push. */
const traceContextBytes = 600;

/** What of the metadata is text, where it is there at all. */
const texts = ["correlationId", "causationId", "source", "issuedAt", "traceparent", "tracestate"] as const;

/**
 * Metadata as JSON, later layers laid over earlier ones key by key; undefined where there is none.
 *
 * @throws TypeError for what is no metadata, RangeError for what is too large.
 */
export function encodeMetadata(
  attempt: string,
  layers: readonly unknown[],
  isInherited: boolean,
): JsonText | undefined {
  if (layers.every((layer) => layer === undefined)) return undefined;
  // Without a prototype, so that a key named __proto__ stays a key, and is refused as one.
  const metadata: Record<string, unknown> = Object.create(null);
  for (const layer of layers) {
    if (layer === undefined) continue;
    if (typeof layer !== "object" || layer === null || Array.isArray(layer)) {
      throw new TypeError(`${attempt}: metadata must be an object, got ${shown(layer)}`);
    }
    for (const [key, value] of Object.entries(layer)) if (value !== undefined) metadata[key] = value;
  }
  const named = namedIssues(metadata);
  if (named.length > 0) {
    const told = named.map(({ path, message }) => `metadata.${path} ${message}`);
    throw new TypeError(`${attempt}: ${told.join("; ")}`);
  }
  // What a parent was allowed its follow-ups inherit, and two ids beside it.
  const text = toJson(metadata, maxMetadataBytes + (isInherited ? inheritedIdsBytes : 0) + traceRoom(metadata));
  if (text.issues === undefined) return text.json === "{}" ? undefined : text;
  if (text.tooLarge) throw new RangeError(`${attempt}: metadata ${tooLarge}`);
  throw new TypeError(`${attempt}: its metadata is invalid: ${formatIssues(text.issues)}`);
}

/** Everything for which {@link encodeMetadata} would refuse an object, by its place in it. */
export function metadataIssues(metadata: Readonly<Record<string, unknown>>): readonly Issue[] {
  const text = toJson(metadata, maxMetadataBytes + traceRoom(metadata));
  const json = text.issues?.map(({ path, message }) => ({
    path,
    message: path === "" && text.tooLarge ? tooLarge : message,
  }));
  return merged(namedIssues(metadata), json ?? []);
}

const tooLarge = `must have at most ${maxMetadataBytes} bytes as JSON`;

const traceRoom = ({ traceparent }: Readonly<Record<string, unknown>>): number =>
  traceparent === undefined ? 0 : traceContextBytes;

/** What is wrong with the fields that have a name. */
function namedIssues(metadata: Readonly<Record<string, unknown>>): Issue[] {
  const issues: Issue[] = [];
  for (const key of texts) {
    const value = metadata[key];
    if (value === undefined || typeof value === "string") continue;
    issues.push({ path: key, message: `must be a string, got ${shown(value)}` });
  }
  const actor = metadata.actor as { readonly id?: unknown; readonly type?: unknown } | null | undefined;
  if (actor !== undefined && (typeof actor?.id !== "string" || typeof actor.type !== "string")) {
    issues.push({ path: "actor", message: `must be an object with the strings id and type, got ${shown(actor)}` });
  }
  return issues;
}
