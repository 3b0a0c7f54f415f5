import { expect, test } from "vitest";
import { errorRecord, isPermanentFailure, PermanentFailure, sanitise } from "../src/failure.ts";

function bytes(value: unknown): number {
  return Buffer.byteLength(JSON.stringify(value));
}

test("errorRecord() keeps code, message, name and stack", () => {
  const error = Object.assign(new TypeError("no route"), { code: "ENOROUTE" });
  expect(errorRecord(error)).toEqual({ code: "ENOROUTE", message: "no route", name: "TypeError", stack: error.stack });
  expect(errorRecord(error, "timed_out").code).toBe("timed_out");
});

test("errorRecord() takes only a short text for a code", () => {
  for (const code of [7, "", null, {}, "x".repeat(65)]) {
    expect(errorRecord(Object.assign(new Error("e"), { code })).code).toBe("error");
  }
  expect(errorRecord(Object.assign(new Error("e"), { code: "x".repeat(64) })).code).toBe("x".repeat(64));
});

test("errorRecord() tells the stacks of causes, and survives a cycle of them", () => {
  const root = new Error("root");
  const error = new Error("top", { cause: new Error("middle", { cause: root }) });
  const { stack } = errorRecord(error);
  expect(stack).toMatch(/^Error: top\n[^]*\nCaused by: Error: middle\n[^]*\nCaused by: Error: root\n/);
  root.cause = error;
  expect(errorRecord(error).stack?.match(/Caused by/g)).toHaveLength(4);
});

test("errorRecord() finds a message where the error itself says nothing", () => {
  expect(errorRecord(new AggregateError([new Error("refused by ::1")])).message).toBe("refused by ::1");
  expect(errorRecord(new Error("", { cause: new Error("deeper") })).message).toBe("deeper");
  expect(errorRecord(new TypeError("")).message).toBe("TypeError");
  expect(errorRecord({ message: "plain" }).message).toBe("plain");
});

const trap = () => {
  throw new Error("trapped");
};
const hostile = new Proxy(trap, {
  get: trap,
  getPrototypeOf: trap,
  ownKeys: trap,
  has: trap,
  getOwnPropertyDescriptor: trap,
  apply: trap,
});
const odd: [name: string, thrown: unknown, message: string][] = [
  ["null", null, "Thrown: null"],
  ["undefined", undefined, "Thrown: undefined"],
  ["a text", "just text", "just text"],
  ["an empty text", "", ""],
  ["a number", 7, "Thrown: 7"],
  ["a BigInt", 7n, "Thrown: 7"],
  ["a symbol", Symbol("s"), "Thrown: Symbol(s)"],
  ["a function", () => 1, "Thrown: a function"],
  ["an object, by its keys only", { status: 500, secret: "s3cr3t" }, "Thrown: an object with status, secret"],
  ["an empty object", {}, "Thrown: an object"],
  [
    "an object whose toString throws",
    { toString: trap, [Symbol.toPrimitive]: trap },
    "Thrown: an object with toString",
  ],
  ["a proxy that throws", hostile, "Thrown: a function"],
  [
    "a proxied object that throws",
    new Proxy({}, { get: trap, ownKeys: trap }),
    "Thrown: an object that cannot be read",
  ],
  ["an error whose getters throw", Object.defineProperty(new Error("x"), "message", { get: trap }), "Error"],
  [
    "an error whose fields are no texts",
    Object.assign(new Error("x"), { message: 5, stack: {}, name: [] }),
    "Thrown: an object with name",
  ],
];
for (const [name, thrown, message] of odd) {
  test(`errorRecord() makes a record of ${name}`, () => {
    const record = errorRecord(thrown);
    expect(record.message).toBe(message);
    expect(record.code).toBe("error");
    expect(bytes(record)).toBeLessThanOrEqual(8192);
  });
}

test("errorRecord() replaces what the database refuses, in every field", () => {
  const record = errorRecord({ code: "a\0", message: "b\0\ud800c", name: "\udc00", stack: "s\0" });
  expect(record).toEqual({ code: "a\ufffd", message: "b\ufffd\ufffdc", name: "\ufffd", stack: "s\ufffd" });
});

test("errorRecord() is at most 8 KiB as JSON, whatever it is cut from", () => {
  for (const piece of ["a", "ü", "東", "🚀", "\u0001", '"', "\\", "\n", "\0", "\ud800"]) {
    for (const length of [1, 100, 2_000, 10_000, 1_000_000]) {
      const huge = piece.repeat(length);
      const record = errorRecord({ code: huge, name: huge, message: huge, stack: huge, cause: { stack: huge } });
      expect(bytes(record)).toBeLessThanOrEqual(8192);
      for (const text of Object.values(record)) expect(text.isWellFormed() && !text.includes("\0")).toBe(true);
    }
  }
});

test("errorRecord() keeps what fits and shows where it was cut", () => {
  const { message } = errorRecord({ message: "m".repeat(10_000) });
  expect(message).toBe(`${"m".repeat(4093)}…`);
  expect(errorRecord({ message: "m".repeat(4096) }).message).toBe("m".repeat(4096));
  const record = errorRecord({ message: "m", stack: "s".repeat(20_000) });
  expect(bytes(record)).toBe(8192);
});

test("PermanentFailure is an error with a code and a cause, and is known by isPermanentFailure()", () => {
  const cause = new Error("550");
  const failure = new PermanentFailure("No such mailbox", { cause });
  expect(failure).toBeInstanceOf(Error);
  expect(failure).toMatchObject({ code: "ORCHESTRATUM_PERMANENT_FAILURE", name: "PermanentFailure", cause });
  expect(String(failure)).toBe("PermanentFailure: No such mailbox");
  expect(isPermanentFailure(failure)).toBe(true);
  for (const thrown of [cause, null, undefined, "x", hostile]) expect(isPermanentFailure(thrown)).toBe(false);
});

test("sanitise() changes nothing but NUL and lone surrogates", () => {
  expect(sanitise("größe 🚀\n\u0001")).toBe("größe 🚀\n\u0001");
  expect(sanitise("a\0b\ud800\udc00c\ud800")).toBe("a\ufffdb\ud800\udc00c\ufffd");
});
