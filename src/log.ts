/**
 * Structured logs: what an orchestrator observes, as records with stable keys, for whatever writes logs.
 *
 * A record says what happened, to which command and in which chain, never what was in it: input, output, progress and
 * metadata are in no observation. Two things are somebody's own text. What a handler says through its logger is written
 * as it was said. And the message of an error is what its author wrote, so it is written unless `errorMessages` says
 * no; but for the errors of a contract, whose schema quotes the value that it refuses.
 */
import { systemClock } from "./clock.ts";
import { type ErrorRecord, errorRecord } from "./failure.ts";
import { type Keys, requireBoolean, requireKeys, shown } from "./limits.ts";
import type { Observation, ObservedCommand, Observer } from "./observation.ts";

const levels = ["debug", "info", "warn", "error"] as const;

/** How grave something is. */
export type LogLevel = (typeof levels)[number];

/** One thing that happened. Keys are in snake_case, as log collectors have them; what does not apply is left out. */
export interface LogRecord {
  readonly level: LogLevel;
  /** The type of the observation: `command_finished`. */
  readonly event: string;
  /** A sentence for people. Of `log` what the handler said. */
  readonly message: string;
  readonly command_id?: string;
  readonly command_name?: string;
  readonly queue?: string;
  readonly attempt?: number;
  readonly fence?: number;
  readonly correlation_id?: string;
  readonly causation_id?: string;
  readonly actor_id?: string;
  /** 32 hexadecimal digits. */
  readonly trace_id?: string;
  /** 16 hexadecimal digits: of the attempt, where something traces attempts, else of the push. */
  readonly span_id?: string;
  readonly worker?: string;
  readonly error_code?: string;
  readonly error_name?: string;
  readonly error_message?: string;
  /** What the handler gave with its message. */
  readonly fields?: Readonly<Record<string, unknown>>;
  /** Whatever else the observation says, its keys in snake_case: `verdict`, `duration_ms`, `count`. */
  readonly [key: string]: unknown;
}

interface Levels {
  debug(...given: any[]): void;
  info(...given: any[]): void;
  warn(...given: any[]): void;
  error(...given: any[]): void;
}

/** Where records go: a function, a logger that takes fields and a message (pino), or a console. */
export type LogTarget = ((record: LogRecord) => void) | (Levels & { child(...given: any[]): unknown }) | Levels;

export interface LogToOptions {
  /** The least grave one that is written. At `debug` each claim, and each start and end of a command, is a record. @default "info" */
  readonly level?: LogLevel;
  /** Whether the messages of errors are written; their codes and names are. @default true */
  readonly errorMessages?: boolean;
}

const logKeys: Keys<LogToOptions> = { level: true, errorMessages: true };

/**
 * An observer that writes what it observes to `target`, by the level's method. A function gets the record. What has a
 * `child`, as pino has, gets `(fields, message)`. Anything else, as the console, gets one line of JSON, with the `time`.
 *
 * @throws TypeError for a target that is none of these, and for a level that there is not.
 * @example
 * createOrchestrator({ database, handlers, observe: logTo(pino()) });
 */
export function logTo(target: LogTarget, options: LogToOptions = {}): Observer {
  requireKeys("Cannot log", options, logKeys);
  const { level = "info", errorMessages = true } = options;
  requireBoolean("Cannot log", "errorMessages", errorMessages);
  const least = levels.indexOf(level);
  if (least < 0) {
    throw new TypeError(`Cannot log: level must be one of ${levels.join(", ")}, got ${shown(level)}`);
  }
  const write = writerOf(target);
  const levelOf = createLevels();
  const observer: Observer = (observation) => {
    const own = levelOf(observation);
    if (levels.indexOf(own) >= least) write(recordOf(observation, own, errorMessages));
  };
  return Object.assign(observer, { wants: mayBe(level) });
}

/** Whether observations of a type may be as grave as that. */
export function mayBe(level: LogLevel): (type: Observation["type"]) => boolean {
  return (type) => level === "debug" || !debugTypes.has(type);
}

function writerOf(target: LogTarget): (record: LogRecord) => void {
  if (typeof target === "function") return target;
  const missing = levels.filter((level) => typeof (target as Levels | undefined)?.[level] !== "function");
  if (missing.length > 0) {
    throw new TypeError(`Cannot log: target must be a function, or have ${missing.join(", ")}, got ${shown(target)}`);
  }
  if ("child" in target && typeof target.child === "function") {
    return ({ level, message, ...fields }) => target[level](fields, message);
  }
  return (record) => target[record.level](line(record));
}

function line(record: LogRecord): string {
  const timed = { time: new Date().toISOString(), ...record };
  try {
    return JSON.stringify(timed, (_, value: unknown) => (typeof value === "bigint" ? String(value) : value));
  } catch {
    // A handler may give what is no JSON. What it said is worth more.
    return JSON.stringify({ ...timed, fields: { refused: "They cannot be written as JSON" } });
  }
}

/** Whatever they say. */
const debugTypes: ReadonlySet<Observation["type"]> = new Set(["claimed", "command_started", "notification_heard"]);

const minuteMs = 60_000;
/** So many names and versions are remembered at most. */
const maxUnknown = 1_000;

/**
 * How grave each observation is, for one writer. A name and version that no handler here knows is a warning once a
 * minute: a deployment may leave thousands of them for a while, each of which is put off again and again.
 */
export function createLevels(): (observation: Observation) => LogLevel {
  const saidAt = new Map<string, number>();
  return (observation) => {
    if (observation.type !== "command_unknown") return levelOf(observation);
    const key = `${observation.version} ${observation.name}`;
    const at = saidAt.get(key);
    const now = systemClock.now();
    if (at !== undefined && now - at < minuteMs) return "debug";
    if (saidAt.size >= maxUnknown) saidAt.clear();
    saidAt.set(key, now);
    return levelOf(observation);
  };
}

/** How grave an observation is; `log` ones carry their own. */
function levelOf(observation: Observation): LogLevel {
  if (debugTypes.has(observation.type)) return "debug";
  switch (observation.type) {
    case "log":
      return observation.level;
    case "internal_error":
      return "error";
    case "command_finished":
      if (observation.verdict === "retry") return "warn";
      if (observation.verdict === "cancelled") return "info";
      return ["failed", "timed_out", "not_found"].includes(observation.verdict) ? "error" : "debug";
    case "duty_finished":
      return observation.error === undefined ? "debug" : "warn";
    case "listening":
      return observation.proven ? "info" : "warn";
    case "worker_started":
    case "worker_stopped":
    case "leases_given_back":
      return "info";
    default:
      return "warn";
  }
}

/** Most commands that one record names. */
const maxNamed = 10;

function recordOf(observation: Observation, level: LogLevel, errorMessages: boolean): LogRecord {
  const record: Record<string, unknown> = {
    level,
    event: observation.type,
    message: messageOf(observation),
  };
  const isOfCommand = "chain" in observation;
  for (const [key, value] of Object.entries(observation)) {
    if (value === undefined || key === "type" || key === "level" || key === "message") continue;
    if (key === "chain") addChain(record, value as ObservedCommand["chain"]);
    else if (key === "error") addError(record, value, errorMessages);
    else if (key === "fields") record.fields = told(value as Readonly<Record<string, unknown>>, errorMessages);
    else if (key === "id") record.command_id = value;
    else if (key === "name") record.command_name = value;
    // Of a statement that is repeated, not of a command.
    else if (key === "attempt" && !isOfCommand) record.statement_attempt = value;
    else if (key === "commands") {
      const commands = value as readonly ObservedCommand[];
      if (commands.length > 0) record.command_ids = commands.slice(0, maxNamed).map(({ id }) => id);
    } else record[snakeCase(key)] = value;
  }
  return record as unknown as LogRecord;
}

function addChain(record: Record<string, unknown>, chain: ObservedCommand["chain"]): void {
  record.correlation_id = chain.correlationId;
  if (chain.causationId !== undefined) record.causation_id = chain.causationId;
  if (chain.actorId !== undefined) record.actor_id = chain.actorId;
  const [, traceId, spanId] = /^[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-/.exec(chain.traceparent ?? "") ?? [];
  if (traceId === undefined) return;
  record.trace_id = traceId;
  record.span_id = spanId;
}

function addError(record: Record<string, unknown>, error: unknown, errorMessages: boolean): void {
  const { code, name, message } = tellable(error, errorMessages);
  record.error_code = code;
  if (name !== undefined) record.error_name = name;
  if (message !== undefined) record.error_message = message;
}

/** The fields that a handler gave, with errors among them as what may be told of them: as JSON they would be `{}`. */
function told(fields: Readonly<Record<string, unknown>>, errorMessages: boolean): Record<string, unknown> {
  return Object.fromEntries(
    Object.entries(fields).map(([key, value]) => [
      key,
      value instanceof Error ? withoutStack(tellable(value, errorMessages)) : value,
    ]),
  );
}

function withoutStack({ stack: _, ...error }: TellableError): Omit<TellableError, "stack"> {
  return error;
}

/** What may be told of an error outside of the database. */
export interface TellableError {
  readonly code: string;
  readonly name?: string;
  readonly message?: string;
  /** Its frames alone: what stands before them, and between them, is messages. */
  readonly stack?: string;
}

/** Codes of errors whose message has a schema's words in it, which quote what it refuses. */
const quotes = /^(?:ORCHESTRATUM_)?INVALID_/i;

/** What may be told of an error, or of what is recorded of one. Never throws. */
export function tellable(error: unknown, messages: boolean): TellableError {
  const record: ErrorRecord = errorRecord(error);
  const frames = record.stack?.split("\n").filter((text) => /^\s+at /.test(text)) ?? [];
  return {
    code: record.code,
    ...(record.name === undefined ? {} : { name: record.name }),
    ...(messages && !quotes.test(record.code) ? { message: record.message } : {}),
    ...(frames.length === 0 ? {} : { stack: frames.join("\n") }),
  };
}

function snakeCase(key: string): string {
  return key.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
}

const endings: Readonly<Record<string, string>> = {
  succeeded: "Command succeeded",
  failed: "Command failed",
  cancelled: "Command was cancelled",
  timed_out: "Command timed out",
  not_found: "Command ended since nobody has a handler for it",
  retry: "Attempt failed and will be tried again",
  snooze: "Command was put off by its handler",
  release: "Command was handed back",
  unknown: "Command was put off since no handler here knows it",
};

const sentences: Readonly<Partial<Record<Observation["type"], string>>> = {
  worker_started: "Worker started",
  worker_stopped: "Worker stopped",
  claimed: "Commands were claimed",
  command_started: "Attempt started",
  lease_lost: "Lease was lost",
  lease_abandoned: "Lease ended without a word of its worker",
  handler_stuck: "Handler goes on although its attempt is over",
  command_unknown: "No handler here knows the command",
  event_loop_blocked: "Event loop stood still",
  leases_given_back: "Leases of a lost claim were handed back",
  database_trouble: "Statement failed and will be tried again",
  database_unresponsive: "Statement was not answered in time",
  notification_heard: "Notification arrived",
  history_overdue: "History was not emptied in time",
  events_overdue: "Events were not emptied in time",
  reader_failed: "Batch of a reader failed and will be tried again",
  reader_lease_lost: "Lease of a reader was lost",
  reader_switched: "Rebuilt reader was put in use",
  internal_error: "Something failed that should not have",
};

function messageOf(observation: Observation): string {
  switch (observation.type) {
    case "log":
      return observation.message;
    case "command_finished":
      return endings[observation.verdict] ?? observation.verdict;
    case "listening":
      return observation.proven ? "Notifications arrive" : "Notifications do not arrive: workers poll";
    case "duty_finished":
      return observation.error === undefined ? "Duty was done" : "Duty failed";
    default:
      return sentences[observation.type] ?? observation.type;
  }
}
