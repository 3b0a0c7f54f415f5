/**
 * Failures as data. Whatever a handler throws (an error with a cause, null, a proxy that throws in turn) becomes a
 * small record that the database takes: a failure that cannot be recorded would keep its command from ever ending.
 */

import { utf8Bytes } from "./json.ts";
import { maxErrorBytes } from "./limits.ts";

/** What is kept of an error. Its JSON is at most 8 KiB. */
export interface ErrorRecord {
  /** For programs: the error's own `code` where that is a short text, else "error". */
  readonly code: string;
  readonly message: string;
  /** The error's name: `TypeError`. */
  readonly name?: string;
  /** Where it was thrown, and the same of its causes. */
  readonly stack?: string;
}

const permanentCode = "ORCHESTRATUM_PERMANENT_FAILURE";

/**
 * Thrown by a handler to say that another attempt is no use: the command fails at once, whatever retries it has left.
 *
 * @example throw new PermanentFailure("The mailbox does not exist", { cause: error });
 */
export class PermanentFailure extends Error {
  override readonly name: string = "PermanentFailure";
  readonly code: string = permanentCode;
}

/** The keys by which an error that has a code of its own says that it is permanent, or when to try again at the earliest. */
export const permanent: unique symbol = Symbol.for("orchestratum.permanent");
export const retryAfterMs: unique symbol = Symbol.for("orchestratum.retryAfterMs");

/** Whether what was thrown says that it is permanent; by its code, so that another copy of this library counts too. */
export function isPermanentFailure(thrown: unknown): boolean {
  return field(thrown, "code") === permanentCode || field(thrown, permanent) === true;
}

/** For how long what was thrown wants no other attempt, in ms; 0 where it says nothing of that. */
export function retryAfterOf(thrown: unknown): number {
  const ms = field(thrown, retryAfterMs);
  return typeof ms === "number" && ms > 0 ? ms : 0;
}

/** Longest code, in characters; a longer one is taken for a text that somebody called a code. */
const maxCodeLength = 64;
const maxNameBytes = 256;
const maxMessageBytes = 4 * 1024;
/** Errors whose stacks are told, the thrown one among them. */
const maxCauses = 5;

/**
 * What was thrown, as a record: sanitised, and cut to 8 KiB of JSON. Never throws.
 *
 * @param code in place of the error's own
 */
export function errorRecord(thrown: unknown, code?: string): ErrorRecord {
  const ownCode = text(thrown, "code");
  const known = code ?? (ownCode.length <= maxCodeLength ? ownCode : "");
  const name = cut(text(thrown, "name"), maxNameBytes);
  const record: { code: string; message: string; name?: string; stack?: string } = {
    code: cut(known, maxNameBytes) || "error",
    message: cut(messageOf(thrown), maxMessageBytes),
  };
  if (name !== "") record.name = name;
  const stack = stackOf(thrown);
  if (stack !== "") record.stack = cut(stack, maxErrorBytes - utf8Bytes(JSON.stringify({ ...record, stack: "" })));
  return record;
}

/** A text that the database takes: NUL characters and lone surrogates replaced by U+FFFD. */
export function sanitise(value: string): string {
  return value.toWellFormed().replaceAll("\0", "\ufffd");
}

/** A property of something that may throw when it is looked at. */
function field(thrown: unknown, key: PropertyKey): unknown {
  if ((typeof thrown !== "object" && typeof thrown !== "function") || thrown === null) return undefined;
  try {
    return (thrown as Record<PropertyKey, unknown>)[key];
  } catch {
    return undefined;
  }
}

function text(thrown: unknown, key: string): string {
  const value = field(thrown, key);
  return typeof value === "string" ? value : "";
}

function messageOf(thrown: unknown): string {
  if (typeof thrown === "string") return thrown;
  const own = text(thrown, "message");
  if (own !== "") return own;
  // An AggregateError, as of a connection that was refused on every address, says nothing itself.
  const inner = text(field(field(thrown, "errors"), "0"), "message") || text(field(thrown, "cause"), "message");
  if (inner !== "") return inner;
  return text(thrown, "name") || `Thrown: ${kindOf(thrown)}`;
}

/** What was thrown that is no error. An object by its keys only: its values may be secret. */
function kindOf(thrown: unknown): string {
  if (typeof thrown === "function") return "a function";
  if (typeof thrown !== "object" || thrown === null) return String(thrown);
  try {
    const keys = Object.keys(thrown).slice(0, 20);
    return keys.length === 0 ? "an object" : `an object with ${keys.join(", ")}`;
  } catch {
    return "an object that cannot be read";
  }
}

function stackOf(thrown: unknown): string {
  const stacks: string[] = [];
  // Causes can be a cycle, hence the count.
  for (let error = thrown; stacks.length < maxCauses; error = field(error, "cause")) {
    const stack = text(error, "stack") || (stacks.length > 0 ? text(error, "message") : "");
    if (stack === "") break;
    // More is never kept, and a stack of megabytes is not to be copied once for each cause.
    stacks.push(stack.slice(0, maxErrorBytes));
  }
  return stacks.join("\nCaused by: ");
}

/** As much of `value`, sanitised, as takes at most `maxBytes` in a JSON text; a cut is shown by an ellipsis. */
function cut(value: string, maxBytes: number): string {
  // What is longer in characters is longer in bytes, so a text of megabytes need not be read to its end.
  const clean = sanitise(value.slice(0, maxBytes));
  if (clean.length === value.length && utf8Bytes(JSON.stringify(clean)) - 2 <= maxBytes) return clean;
  const ellipsis = "…";
  let left = maxBytes - utf8Bytes(ellipsis);
  let end = 0;
  for (const character of clean) {
    left -= jsonBytes(character);
    if (left < 0) break;
    end += character.length;
  }
  return clean.slice(0, end) + ellipsis;
}

/** Bytes of one character within a JSON string. Those that JSON escapes as `\u001f` take six. */
function jsonBytes(character: string): number {
  const code = character.codePointAt(0) as number;
  if (code < 0x20) return 6;
  if (code < 0x80) return character === '"' || character === "\\" ? 2 : 1;
  if (code < 0x800) return 2;
  return code < 0x10000 ? 3 : 4;
}
