import { runInNewContext } from "node:vm";
import { expect, test } from "vitest";
import { toJson, utf8Bytes } from "../src/json.ts";

const limit = 256 * 1024;

/** The issues of a value that is refused, as `path: message`. */
function issuesOf(value: unknown, maxBytes: number = limit): string[] {
  const text = toJson(value, maxBytes);
  return (text.issues ?? []).map(({ path, message }) => `${path}: ${message}`);
}

function textOf(value: unknown): string | undefined {
  return toJson(value, limit).json;
}

// Each is what JSON says of it, and is the same when it is read back.
const exact: [name: string, value: unknown][] = [
  ["null", null],
  ["numbers", [0, -0, 1, -1.5, 1e300, 5e-324, Number.MAX_SAFE_INTEGER, 1e21, 123456789.123]],
  ["booleans", [true, false]],
  [
    "texts",
    ["", 'a "quoted" \\ path', "tab\t, line\n, \u0001\u001f\u007f", "größe, 東京, 🚀", "\u2028\u2029", "</script>"],
  ],
  ["empty ones", [{}, [], ""]],
  ["keys of every kind", { "": 1, 'a"b': 2, "a b": 3, 東京: 4, "🚀": 5, 1: 6, constructor: 7, toJSON: "data" }],
  ["an object without a prototype", Object.assign(Object.create(null), { a: 1 })],
  ["an object of another realm", runInNewContext("({ a: [{ b: 1 }, []], c: 'x' })")],
  ["a shared object", ((shared) => ({ a: shared, b: [shared, shared] }))({ n: 1 })],
  ["a frozen object", Object.freeze({ a: Object.freeze([1]) })],
];
for (const [name, value] of exact) {
  test(`toJson() writes ${name} as JSON does`, () => {
    const text = toJson(value, limit);
    expect(text.issues).toBeUndefined();
    expect(text).toMatchObject({ json: JSON.stringify(value), bytes: Buffer.byteLength(JSON.stringify(value)) });
  });
}

test("toJson() leaves out undefined properties, and nothing else", () => {
  expect(textOf({ a: undefined, b: 1, c: { d: undefined }, e: undefined })).toBe('{"b":1,"c":{}}');
});

class Money {
  cents = 5;
}
class List extends Array {}

// What JSON would change, drop or not say, with how it travels.
const refused: [name: string, value: unknown, message: RegExp][] = [
  ["undefined itself", undefined, /undefined is not JSON: pass null/],
  ["a function", () => 1, /a function is not JSON: pass the data/],
  ["a symbol", Symbol("s"), /a symbol is not JSON: pass a string/],
  ["a BigInt", 10n, /a BigInt is not JSON: pass it as a string/],
  ["NaN", Number.NaN, /NaN is not JSON: pass null/],
  ["Infinity", Number.POSITIVE_INFINITY, /Infinity is not JSON/],
  ["-Infinity", Number.NEGATIVE_INFINITY, /-Infinity is not JSON/],
  ["a Date", new Date(), /a Date is not JSON: pass date\.toISOString\(\)/],
  ["a Date of another realm", runInNewContext("new Date()"), /a Date is not JSON/],
  ["a Map", new Map(), /a Map is not JSON: pass Object\.fromEntries\(map\)/],
  ["a Set", new Set(), /a Set is not JSON: pass a list, \[\.\.\.set\]/],
  ["a RegExp", /a/, /a RegExp is not JSON: pass its source/],
  ["an Error", new RangeError("x"), /an Error is not JSON: pass its message/],
  ["a Promise", Promise.resolve(1), /a Promise is not JSON: await it/],
  ["bytes", new Uint8Array(2), /binary data is not JSON: pass it as base64/],
  ["a buffer", new ArrayBuffer(2), /binary data is not JSON/],
  ["a String object", Object("x"), /a String object is not JSON/],
  ["an URL", new URL("http://a.example"), /toJSON would be replaced/],
  ["a class instance", new Money(), /an instance of Money is not JSON: pass a plain object/],
  ["a class instance of another realm", runInNewContext("class Foo {}; new Foo()"), /an instance of Foo is not JSON/],
  ["an instance of a class that extends Array", List.from([1]), /an instance of List is not JSON/],
  ["what inherits properties", Object.create({ a: 1 }), /is not JSON/],
  [
    "what inherits from an object without a prototype",
    Object.create(Object.create(null, {})),
    /a class instance is not/,
  ],
  ["NUL in a text", "a\0b", /NUL character/],
  ["a lone high surrogate", "a\ud800", /lone surrogate/],
  ["a lone low surrogate", "\udc00b", /lone surrogate/],
];
for (const [name, value, message] of refused) {
  test(`toJson() refuses ${name} wherever it stands, with its path`, () => {
    expect(issuesOf(value)).toEqual([expect.stringMatching(message)]);
    expect(issuesOf(value)[0]).toMatch(/^: /);
    expect(issuesOf([1, value])).toEqual([expect.stringMatching(message)]);
    expect(issuesOf([1, value])[0]).toMatch(/^\[1\]: /);
    if (value === undefined) return;
    expect(issuesOf({ ok: 1, to: [{ "first name": value }] })[0]).toMatch(/^to\[0\]\["first name"\]: /);
  });
}

test("toJson() refuses keys that cannot be stored or are dangerous", () => {
  expect(issuesOf({ a: JSON.parse('{"__proto__": {"admin": true}}') })).toEqual([
    expect.stringMatching(/^a\.__proto__: a property named __proto__ is refused/),
  ]);
  expect(issuesOf({ "a\0b": 1 })).toEqual([expect.stringMatching(/^\["a\\u0000b"\]: a text with a NUL/)]);
  expect(issuesOf({ "\ud800": 1 })).toEqual([expect.stringMatching(/^\["\\ud800"\]: a text with a lone surrogate/)]);
  expect(issuesOf({ a: { [Symbol("s")]: 1 } })).toEqual([expect.stringMatching(/^a\[Symbol\(s\)\]: .* by a symbol/)]);
});

test("toJson() refuses lists with holes or with properties of their own", () => {
  const holed = [1];
  holed[2] = 3;
  expect(issuesOf({ a: holed })).toEqual([expect.stringMatching(/^a\[1\]: a hole in a list/)]);
  expect(issuesOf(new Array(2 ** 32 - 1))).toEqual([expect.stringMatching(/^\[0\]: a hole/)]);
  expect(issuesOf(/a/.exec("a"))).toEqual([expect.stringMatching(/^: a list with properties of its own/)]);
});

test("toJson() names a cycle and what it leads back to", () => {
  const tree: { children: object[] } = { children: [] };
  tree.children.push({ parent: tree });
  expect(issuesOf(tree)).toEqual(["children[0].parent: a cycle, the same object as the value itself: pass its id"]);
  expect(issuesOf({ tree })[0]).toMatch(/^tree\.children\[0\]\.parent: a cycle, the same object as tree:/);
  const list: unknown[] = [];
  list.push(list, list);
  expect(issuesOf(list)).toHaveLength(2);
});

function nested(levels: number, wrap: (inner: unknown) => unknown): unknown {
  let value: unknown = 1;
  for (let i = 0; i < levels; i++) value = wrap(value);
  return value;
}

test("toJson() takes 64 levels, refuses 65 and survives 50,000", () => {
  for (const wrap of [(inner: unknown) => [inner], (inner: unknown) => ({ a: inner })]) {
    expect(issuesOf(nested(64, wrap))).toEqual([]);
    expect(issuesOf(nested(65, wrap))).toEqual([expect.stringMatching(/nested deeper than 64 levels/)]);
    expect(issuesOf(nested(50_000, wrap))).toEqual([expect.stringMatching(/nested deeper than 64 levels/)]);
  }
});

test("toJson() takes 10,000 property names, all levels together, and refuses one more", () => {
  const object = (keys: number) => Object.fromEntries(Array.from({ length: keys }, (_, i) => [`k${i}`, i]));
  expect(issuesOf(object(10_000))).toEqual([]);
  expect(issuesOf(object(10_001))).toEqual([expect.stringMatching(/^: more than 10000 property names/)]);
  expect(issuesOf([object(5_000), object(5_000)])).toEqual([]);
  expect(issuesOf([object(5_000), object(5_001)])).toEqual([expect.stringMatching(/^: more than 10000/)]);
  expect(issuesOf(Array.from({ length: 20_000 }, () => 1))).toEqual([]);
});

test("toJson() counts its limit in bytes of UTF-8, to the byte", () => {
  for (const [character, bytes] of [
    ["a", 1],
    ["ü", 2],
    ["東", 3],
    ["🚀", 4],
    ["\n", 2],
    ["\u0001", 6],
  ] as const) {
    const text = character.repeat(10);
    expect(toJson(text, 10 * bytes + 2)).toMatchObject({ bytes: 10 * bytes + 2 });
    expect(issuesOf(text, 10 * bytes + 1)).toEqual([
      `: more than ${10 * bytes + 1} bytes as JSON: store it elsewhere and pass a reference`,
    ]);
  }
  const list = JSON.stringify([[1, 2], { a: "b" }]);
  expect(toJson(JSON.parse(list), list.length).json).toBe(list);
  expect(toJson(JSON.parse(list), list.length - 1)).toMatchObject({ tooLarge: true, walkable: false });
});

test("toJson() leaves early what unfolds without end", () => {
  let value: unknown = "x";
  for (let i = 0; i < 60; i++) value = [value, value];
  expect(issuesOf(value)).toEqual([expect.stringMatching(/^: more than 262144 bytes/)]);
  let empty: unknown = [];
  for (let i = 0; i < 60; i++) empty = [empty, empty];
  expect(issuesOf(empty)).toEqual([expect.stringMatching(/^: more than 262144 bytes/)]);
  let keyed: unknown = 1;
  for (let i = 0; i < 60; i++) keyed = { a: keyed, b: keyed };
  expect(issuesOf(keyed)).toEqual([expect.stringMatching(/^: more than/)]);
  let refusedOften: unknown = [10n];
  for (let i = 0; i < 60; i++) refusedOften = [refusedOften, refusedOften];
  expect(issuesOf(refusedOften)).toHaveLength(100);
});

test("toJson() refuses an object with toJSON, of its own or of its class", () => {
  const message = "an object with toJSON would be replaced: pass what its toJSON() returns";
  expect(issuesOf({ a: { toJSON: () => 1 } })).toEqual([`a.toJSON: ${message}`]);
  class Price {
    toJSON = () => "5 EUR";
  }
  expect(issuesOf({ a: new Price() })).toEqual([`a: ${message}`]);
});

test("toJson() lists every issue", () => {
  expect(
    issuesOf({ a: 1n, b: [Number.NaN, { c: new Date() }], d: "fine" }).map((issue) => issue.split(":")[0]),
  ).toEqual(["a", "b[0]", "b[1].c"]);
});

test("toJson() reads each value once, so that what was checked is what is written", () => {
  let reads = 0;
  const shifty = {
    get a() {
      return ++reads === 1 ? "checked" : new Date();
    },
  };
  expect(textOf(shifty)).toBe('{"a":"checked"}');
});

test("toJson() refuses what throws when it is looked at, with its path", () => {
  const hostile = {
    a: {
      get b() {
        throw new Error("secret");
      },
    },
  };
  expect(issuesOf(hostile)).toEqual(["a.b: cannot be read: looking at it throws an error"]);
  const { proxy, revoke } = Proxy.revocable({}, {});
  revoke();
  expect(issuesOf({ a: [1], proxy })).toEqual(["proxy: cannot be read: looking at it throws an error"]);
});

test("toJson() says whether something else may walk a value that it refused", () => {
  expect(toJson({ a: 1n }, limit)).toMatchObject({ walkable: true });
  const cycle: Record<string, unknown> = {};
  cycle.self = cycle;
  expect(toJson(cycle, limit)).toMatchObject({ walkable: false });
  expect(
    toJson(
      nested(65, (inner) => [inner]),
      limit,
    ),
  ).toMatchObject({ walkable: false });
});

test("toJson() is not deceived by a toJSON on a prototype", () => {
  // oxlint-disable-next-line no-extend-native -- what a polluted prototype does is what is tested
  Object.defineProperty(Object.prototype, "toJSON", { value: () => "replaced", configurable: true });
  try {
    expect(textOf({ a: [{}] })).toBe('{"a":[{}]}');
  } finally {
    delete (Object.prototype as { toJSON?: unknown }).toJSON;
  }
});

test("utf8Bytes() counts small and large texts alike", () => {
  for (const text of ["", "aü東🚀", "ü".repeat(21_845), "東".repeat(21_846), "🚀".repeat(50_000)]) {
    expect(utf8Bytes(text)).toBe(Buffer.byteLength(text));
  }
});
