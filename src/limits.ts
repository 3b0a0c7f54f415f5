/**
 * The limits, in one place: every size, count and length that is refused when it is exceeded, and the checks that
 * refuse it. What is over a limit is refused at the call, with an error that names the field and the limit.
 */
import type { Queryable } from "./driver.ts";

/** Largest input of a command, in bytes of its JSON as UTF-8 (256 KiB). */
export const maxInputBytes: number = 256 * 1024;
/** Largest output of a command, in bytes of its JSON as UTF-8 (256 KiB). */
export const maxOutputBytes: number = 256 * 1024;
/** Largest record of an error, in bytes of its JSON as UTF-8 (8 KiB). What is longer is cut, never refused. */
export const maxErrorBytes: number = 8 * 1024;
/** Largest metadata of a command, in bytes of its JSON as UTF-8 (8 KiB). */
export const maxMetadataBytes: number = 8 * 1024;
/** Largest progress that a handler notes, in bytes of its JSON as UTF-8 (8 KiB): it travels with heartbeats. */
export const maxProgressBytes: number = 8 * 1024;
/** Deepest nesting of JSON; `[]` is one level. 50,000 levels crash the server's parser, 5,000 `JSON.stringify`. */
export const maxJsonDepth: number = 64;
/** Most property names in one JSON value, all its levels together. */
export const maxJsonKeys: number = 10_000;
/** Most follow-ups of one outcome. More are pushed by a command that goes on. */
export const maxFollowUps: number = 1_000;
/** Largest data of an event, in bytes of its JSON as UTF-8 (256 KiB). */
export const maxEventBytes: number = 256 * 1024;
/** Most events that one outcome publishes. */
export const maxPublished: number = 1_000;
/** Most levels of a topic. */
export const maxTopicLevels: number = 8;
/** Longest topic, pattern of topics, or name of a stream, in characters. */
export const maxTopicLength: number = 200;
/** Longest name of a subscription, in characters: its deliveries are commands named `deliver:<name>`. */
export const maxSubscriptionLength: number = 100;
/** Most patterns of one subscription. */
export const maxPatterns: number = 100;
/** Most commands in one statement. */
export const maxBatchCommands: number = 1_000;
/** Most bytes of JSON in one statement (8 MB): 500 inputs of 255 kB took 1.4 s and 363 MB of memory. */
export const maxBatchBytes: number = 8_000_000;
/** Longest name of a command, in characters (UTF-16 units). */
export const maxNameLength: number = 200;
/** Longest name of a queue, in characters: it travels in a notification's payload, `q <queue> <from when, ms>`. */
export const maxQueueLength: number = 100;
/** Newest version of a contract: a `smallint` in the database. */
export const maxVersion: number = 32_767;
/** Most retries: with the first attempt it makes a `smallint`. */
export const maxRetries: number = 32_766;
/** Last priority; 0 is first. */
export const maxPriority: number = 9;
/** Longest timeout of an attempt, in ms (24.8 days): an `int` in the database, and the longest JavaScript timer. */
export const maxTimeoutMs: number = 2_147_483_647;
/** Longest lease, poll interval and grace, in ms. */
export const dayMs: number = 24 * 60 * 60 * 1000;
/** Most handlers that one worker runs at once. */
export const maxConcurrency: number = 100_000;
/** Longest delay, in ms: a hundred years. */
export const maxDelayMs: number = 100 * 365.25 * 24 * 60 * 60 * 1000;
/** Latest time that a command may be due: the database refuses later ones, which four digits of a year cannot say. */
export const maxTime: Date = new Date("9999-12-31T00:00:00.000Z");

/** A value as an error message shows it: short, and never the content of an object. */
export function shown(value: unknown): string {
  switch (typeof value) {
    case "string":
      return JSON.stringify(value.length > 40 ? `${value.slice(0, 40)}…` : value);
    case "number":
    case "boolean":
    case "undefined":
      return String(value);
    case "object":
      return value === null ? "null" : Array.isArray(value) ? "an array" : "an object";
    default:
      return `a ${typeof value}`;
  }
}

/**
 * Refuses what is not an integer from `min` to `max`. `attempt` says what cannot be done: `Cannot push command "a"`.
 *
 * @throws TypeError where it is no number, RangeError where it is out of range or not whole.
 */
export function requireInteger(attempt: string, field: string, value: unknown, min: number, max: number): void {
  if (Number.isInteger(value) && (value as number) >= min && (value as number) <= max) return;
  const Refusal = typeof value === "number" ? RangeError : TypeError;
  throw new Refusal(`${attempt}: ${field} must be an integer from ${min} to ${max}, got ${shown(value)}`);
}

/** As {@link requireInteger}, for a number of milliseconds, which may have a fraction. */
export function requireMs(attempt: string, field: string, value: unknown, max: number): void {
  if (typeof value === "number" && value >= 0 && value <= max) return;
  const Refusal = typeof value === "number" ? RangeError : TypeError;
  throw new Refusal(`${attempt}: ${field} must be a number of milliseconds from 0 to ${max}, got ${shown(value)}`);
}

/** Refuses what is neither true nor false. */
export function requireBoolean(attempt: string, field: string, value: unknown): void {
  if (typeof value === "boolean") return;
  throw new TypeError(`${attempt}: ${field} must be true or false, got ${shown(value)}`);
}

export function requireFunction(attempt: string, field: string, value: unknown): void {
  if (typeof value === "function") return;
  throw new TypeError(`${attempt}: ${field} must be a function, got ${shown(value)}`);
}

/** Refuses what is no `AbortSignal` (of any realm, or a stand-in). */
export function requireSignal(attempt: string, value: unknown): void {
  const { aborted, addEventListener } = (value ?? {}) as { readonly [Key in keyof AbortSignal]?: unknown };
  if (typeof aborted === "boolean" && typeof addEventListener === "function") return;
  throw new TypeError(`${attempt}: signal must be an AbortSignal, got ${shown(value)}`);
}

/** Refuses what is no open transaction of the caller's. Undefined is none. */
export function requireDb(attempt: string, db: unknown): void {
  if (db === undefined || typeof (db as Queryable | null)?.query === "function") return;
  throw new TypeError(`${attempt}: db must be an open transaction, as postgresJs(tx) makes it, got ${shown(db)}`);
}

/** `what` names it in the message: `a definition`. */
export function requireObject(attempt: string, what: string, value: unknown): void {
  if (typeof value === "object" && value !== null && !Array.isArray(value)) return;
  throw new TypeError(`${attempt}: ${what} must be an object, got ${shown(value)}`);
}

/** The keys that options may have: as a record of all of them, so that the compiler misses one that is added later. */
export type Keys<Options> = Readonly<Record<keyof Options, true>>;

/**
 * Refuses options that are no object, and a key that is not among `keys`: a slip of the pen would else be ignored in
 * silence. Options that were left out are passed over.
 */
export function requireKeys(attempt: string, options: unknown, keys: object): void {
  if (options === undefined) return;
  requireObject(attempt, "options", options);
  for (const key of Object.keys(options as object)) {
    if (Object.hasOwn(keys, key)) continue;
    throw new TypeError(`${attempt}: there is no option ${shown(key)}, only ${Object.keys(keys).join(", ")}`);
  }
}

const dateTag = "[object Date]";

/** Refuses what is not a valid `Date` (of any realm, so no `instanceof`) from 1970 to 9999. */
export function requireTime(attempt: string, field: string, value: unknown): void {
  if (Object.prototype.toString.call(value) !== dateTag) {
    throw new TypeError(`${attempt}: ${field} must be a Date, got ${shown(value)}`);
  }
  const time = Number(value);
  if (time >= 0 && time <= maxTime.getTime()) return;
  const got = Number.isNaN(time) ? "an invalid Date" : (value as Date).toISOString();
  throw new RangeError(`${attempt}: ${field} must lie between 1970-01-01 and 9999-12-31, got ${got}`);
}

/** Refuses what cannot be the name of a command: 1 to 200 characters, no lone surrogates, no control characters. */
export function requireName(attempt: string, value: unknown): void {
  requireText(attempt, "name", value, maxNameLength);
  if (/\p{Cc}/u.test(value as string)) {
    throw new RangeError(`${attempt}: name must be free of control characters, got ${shown(value)}`);
  }
}

/** Refuses what cannot be the name of a queue: 1 to 100 characters, no lone surrogates, no white space or controls. */
export function requireQueue(attempt: string, value: unknown): void {
  requireText(attempt, "queue", value, maxQueueLength);
  if (/[\s\p{Cc}]/u.test(value as string)) {
    throw new RangeError(`${attempt}: queue must be free of white space and control characters, got ${shown(value)}`);
  }
}

/** Refuses what is no list of names of queues. It may be empty. */
export function requireQueues(attempt: string, value: unknown): void {
  if (!Array.isArray(value)) {
    throw new TypeError(`${attempt}: queues must be a list of names, got ${shown(value)}`);
  }
  for (const queue of value) requireQueue(attempt, queue);
}

/** As {@link requireText}, for what the database stores, or compares with what it stores: it takes no NUL. */
export function requireStoredText(attempt: string, field: string, value: unknown, maxLength: number): void {
  requireText(attempt, field, value, maxLength);
  if ((value as string).includes("\0")) {
    throw new RangeError(`${attempt}: ${field} must be free of NUL, got ${shown(value)}`);
  }
}

/** Refuses what is no well-formed string of 1 to `maxLength` characters. */
export function requireText(attempt: string, field: string, value: unknown, maxLength: number): void {
  if (typeof value !== "string") throw new TypeError(`${attempt}: ${field} must be a string, got ${shown(value)}`);
  if (value.length < 1 || value.length > maxLength) {
    throw new RangeError(`${attempt}: ${field} must have 1 to ${maxLength} characters, got ${value.length}`);
  }
  if (!value.isWellFormed()) {
    throw new RangeError(`${attempt}: ${field} must be well-formed Unicode, got ${shown(value)} with a lone surrogate`);
  }
}
