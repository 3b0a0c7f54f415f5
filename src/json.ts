/**
 * Values as JSON text, exactly: what JSON would change (a `Date`, `NaN`, a `Map`, a class instance, …) is refused, with
 * its path and how such a thing travels. Only properties that are undefined are left out.
 *
 * The text is written by the walk that checks. That takes two thirds of the time of a walk with `JSON.stringify` after
 * it, and every value is read once, so that a getter or a proxy cannot show one thing to the check and another to the
 * writer. Properties that are not enumerable do not count as part of a value.
 */

import { maxJsonDepth, maxJsonKeys } from "./limits.ts";
import { formatPath, type Issue } from "./validate.ts";

/** What JSON can say. Undefined properties are left out. */
export type Json = string | number | boolean | null | readonly Json[] | { readonly [key: string]: Json | undefined };

/** JSON text with its size as UTF-8. */
export interface JsonText {
  readonly json: string;
  readonly bytes: number;
  readonly issues?: undefined;
}

/** Why a value is not JSON. */
export interface JsonRefusal {
  readonly json?: undefined;
  readonly issues: readonly Issue[];
  /** Whether something else may walk the value: not where it is cyclic, too deep, too large or cannot be read. */
  readonly walkable: boolean;
  /** Whether it is larger than allowed; the walk then stopped there. */
  readonly tooLarge: boolean;
}

/** The issues that one refusal lists; then the walk stops. */
const maxIssues = 100;

interface Writing {
  readonly maxBytes: number;
  /** Where the walk is: the first `level` keys, and the objects that they were found in. */
  readonly path: PropertyKey[];
  readonly ancestors: object[];
  level: number;
  /** Bytes of UTF-8 written so far, so that a value that unfolds without end (`a = [b, b]`, `b = [c, c]`, …) is left early. */
  size: number;
  keys: number;
  readonly issues: Issue[];
  walkable: boolean;
  tooLarge: boolean;
  stopped: boolean;
}

/**
 * Writes `value` as JSON where that changes nothing, at most `maxBytes` of UTF-8, 64 levels and 10,000 property names.
 * Never throws, whatever the value is.
 */
export function toJson(value: unknown, maxBytes: number): JsonText | JsonRefusal {
  const writing: Writing = {
    maxBytes,
    path: [],
    ancestors: [],
    level: 0,
    size: 0,
    keys: 0,
    issues: [],
    walkable: true,
    tooLarge: false,
    stopped: false,
  };
  let json = "";
  try {
    json = write(writing, value);
  } catch {
    // A getter or a proxy threw. What it threw may itself be hostile, and is nothing that helps.
    writing.walkable = false;
    refuse(writing, "cannot be read: looking at it throws an error");
  }
  if (writing.size > maxBytes) refuseSize(writing);
  const { issues, walkable, tooLarge } = writing;
  return issues.length === 0 ? { json, bytes: writing.size } : { issues, walkable, tooLarge };
}

const encoder = new TextEncoder();
/** What sizes are counted in: filling this again and again is ten times faster than making an array for each. */
const scratch = new Uint8Array(64 * 1024);

/** The size of a text as UTF-8. */
export function utf8Bytes(text: string): number {
  // A UTF-16 unit is at most three bytes.
  if (text.length * 3 <= scratch.length) return encoder.encodeInto(text, scratch).written;
  return encoder.encode(text).length;
}

function write(writing: Writing, value: unknown): string {
  switch (typeof value) {
    case "string":
      return writeString(writing, value);
    case "number":
      if (!Number.isFinite(value)) return refuse(writing, `${value} is not JSON: pass null, or leave the property out`);
      return counted(writing, `${value}`);
    case "boolean":
      return counted(writing, value ? "true" : "false");
    case "object":
      if (value === null) return counted(writing, "null");
      return writeObject(writing, value);
    case "undefined":
      return refuse(writing, "undefined is not JSON: pass null");
    case "bigint":
      return refuse(writing, "a BigInt is not JSON: pass it as a string");
    case "symbol":
      return refuse(writing, "a symbol is not JSON: pass a string");
    default:
      return refuse(
        writing,
        writing.path[writing.level - 1] === "toJSON"
          ? "an object with toJSON would be replaced: pass what its toJSON() returns"
          : "a function is not JSON: pass the data that it works on",
      );
  }
}

/** `text` is ASCII. */
function counted(writing: Writing, text: string): string {
  writing.size += text.length;
  return text;
}

/** What cannot stand between quotes as it is, or not be stored at all, or is more than a byte. */
const special = /["\\\u0000-\u001f\u0080-\uffff]/;

function writeString(writing: Writing, text: string): string {
  writing.size += text.length + 2;
  if (writing.size > writing.maxBytes) return refuseSize(writing);
  if (!special.test(text)) return `"${text}"`;
  if (text.includes("\0")) return refuse(writing, "a text with a NUL character cannot be stored: remove it");
  if (!text.isWellFormed()) {
    return refuse(
      writing,
      "a text with a lone surrogate cannot be stored: pass text.toWellFormed(), or bytes as base64",
    );
  }
  const json = JSON.stringify(text);
  writing.size += utf8Bytes(json) - text.length - 2;
  return json;
}

function writeObject(writing: Writing, value: object): string {
  const { ancestors, level } = writing;
  // The ancestors are at most 64 and mostly two or three: quicker than a set.
  for (let i = 0; i < level; i++) {
    if (ancestors[i] !== value) continue;
    writing.walkable = false;
    const where = formatPath(writing.path.slice(0, i));
    return refuse(writing, `a cycle, the same object as ${where === "" ? "the value itself" : where}: pass its id`);
  }
  if (level >= maxJsonDepth) {
    writing.walkable = false;
    return refuse(writing, `nested deeper than ${maxJsonDepth} levels: pass a flat list that refers by id`);
  }
  ancestors[level] = value;
  const list = Array.isArray(value);
  if (!(list ? isPlainArray(value) : isPlainObject(value))) return refuse(writing, describe(value));
  const text = list ? writeArray(writing, value, level) : writeProperties(writing, value, level);
  writing.level = level;
  return text;
}

function writeArray(writing: Writing, list: readonly unknown[], level: number): string {
  let text = "[";
  writing.size += 2;
  for (let i = 0; i < list.length && !writing.stopped; i++) {
    writing.path[level] = i;
    writing.level = level + 1;
    if (i > 0) writing.size += 1;
    if (writing.size > writing.maxBytes) return refuseSize(writing);
    const item = list[i];
    if (item === undefined && !(i in list)) {
      refuse(writing, "a hole in a list is not JSON: pass null");
      // One is enough: `new Array(1e9)` has a billion of them.
      return "";
    }
    text += i === 0 ? write(writing, item) : `,${write(writing, item)}`;
  }
  writing.level = level;
  // There are no holes here, so any further key is one that JSON would drop, as of the list that a RegExp answers.
  if (!writing.stopped && Object.keys(list).length !== list.length) {
    return refuse(writing, "a list with properties of its own is not JSON: pass an object");
  }
  refuseSymbols(writing, list);
  return `${text}]`;
}

function writeProperties(writing: Writing, object: object, level: number): string {
  let text = "{";
  writing.size += 2;
  for (const key of Object.keys(object)) {
    writing.path[level] = key;
    writing.level = level + 1;
    const value = (object as Record<string, unknown>)[key];
    if (value === undefined) continue;
    if (++writing.keys > maxJsonKeys) {
      writing.level = 0;
      writing.stopped = true;
      writing.walkable = false;
      return refuse(writing, `more than ${maxJsonKeys} property names: store it elsewhere and pass a reference`);
    }
    if (key === "__proto__") {
      refuse(writing, "a property named __proto__ is refused, as it poisons what objects are merged into: rename it");
      continue;
    }
    if (text !== "{") text += counted(writing, ",");
    text += writeKey(writing, key) + write(writing, value);
    if (writing.stopped) return "";
  }
  writing.level = level;
  refuseSymbols(writing, object);
  return `${text}}`;
}

/**
 * Property names as they are written, with quotes and colon: programs write the same few again and again, and this
 * saves a fifth of the time. The first 1,000 are kept, if they are short and plain; it is no loss where a program has more.
 */
const writtenKeys = new Map<string, string>();

function writeKey(writing: Writing, key: string): string {
  const known = writtenKeys.get(key);
  if (known !== undefined) return counted(writing, known);
  const name = writeString(writing, key);
  if (name === "") return name;
  writing.size += 1;
  if (writtenKeys.size < 1_000 && key.length <= 40 && !special.test(key)) writtenKeys.set(key, `${name}:`);
  return `${name}:`;
}

function refuseSymbols(writing: Writing, object: object): void {
  const symbols = Object.getOwnPropertySymbols(object);
  if (symbols.length === 0) return;
  const { level } = writing;
  for (const symbol of symbols) {
    if (!Object.prototype.propertyIsEnumerable.call(object, symbol)) continue;
    writing.path[level] = symbol;
    writing.level = level + 1;
    refuse(writing, "a property named by a symbol is not JSON: name it by a string");
  }
  writing.level = level;
}

/** Notes an issue where the walk is. Answers an empty text, which nobody reads once there is an issue. */
function refuse(writing: Writing, message: string): "" {
  writing.issues.push({ path: formatPath(writing.path.slice(0, writing.level)), message });
  if (writing.issues.length >= maxIssues) writing.stopped = true;
  return "";
}

function refuseSize(writing: Writing): "" {
  if (writing.stopped) return "";
  writing.level = 0;
  writing.stopped = true;
  writing.walkable = false;
  writing.tooLarge = true;
  return refuse(writing, `more than ${writing.maxBytes} bytes as JSON: store it elsewhere and pass a reference`);
}

/** Whether it is a plain object, of this realm or another: another one's `Object.prototype` is known by what it owns. */
function isPlainObject(value: object): boolean {
  const prototype = Object.getPrototypeOf(value);
  if (prototype === Object.prototype || prototype === null) return true;
  return Object.getPrototypeOf(prototype) === null && Object.hasOwn(prototype, "isPrototypeOf");
}

/** Whether it is a list and no instance of a class that extends one. An `Array.prototype` is itself an array. */
function isPlainArray(value: object): boolean {
  const prototype = Object.getPrototypeOf(value);
  if (prototype === Array.prototype) return true;
  return Array.isArray(prototype) && isPlainObject(prototype);
}

const advice: Readonly<Record<string, string>> = {
  Date: "a Date is not JSON: pass date.toISOString(), or date.getTime() as a number",
  Map: "a Map is not JSON: pass Object.fromEntries(map), or its entries as a list, [...map]",
  Set: "a Set is not JSON: pass a list, [...set]",
  RegExp: "a RegExp is not JSON: pass its source as a string",
  Error: "an Error is not JSON: pass its message",
  Promise: "a Promise is not JSON: await it",
  String: "a String object is not JSON: pass the primitive string",
  Number: "a Number object is not JSON: pass the primitive number",
  Boolean: "a Boolean object is not JSON: pass the primitive boolean",
};

function describe(value: object): string {
  // By the tag and not by instanceof, since it may come from another realm.
  const tag = Object.prototype.toString.call(value).slice("[object ".length, -1);
  if (ArrayBuffer.isView(value) || tag.endsWith("ArrayBuffer")) {
    return "binary data is not JSON: pass it as base64 in a string, or a list of numbers";
  }
  const known = Object.hasOwn(advice, tag) ? advice[tag] : undefined;
  if (known !== undefined) return known;
  if (typeof (value as { toJSON?: unknown }).toJSON === "function") {
    return "an object with toJSON would be replaced: pass what its toJSON() returns";
  }
  const name: unknown = value.constructor?.name;
  const whose = typeof name === "string" && name !== "" ? `an instance of ${name.slice(0, 100)}` : "a class instance";
  return `${whose} is not JSON: pass a plain object with its fields, { ...it }`;
}
