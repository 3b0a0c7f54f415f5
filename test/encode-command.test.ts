import * as v from "valibot";
import { expect, test } from "vitest";
import type { Command, CommandOptions } from "../src/command.ts";
import { defineCommand } from "../src/define-command.ts";
import { type EncodedCommand, type EncodeOptions, encodeCommand, InvalidInputError } from "../src/encode-command.ts";
import { isUuid } from "../src/uuid.ts";

const send = defineCommand({ name: "send", input: v.object({ to: v.string(), at: v.optional(v.any()) }) });
const ping = defineCommand({ name: "ping" });
const id = "019A0000-0000-7000-8000-00000000000A";

/** Encodes a command whose schema answers at once. */
function encode(command: Command, options?: EncodeOptions): EncodedCommand {
  const encoded = encodeCommand(command, options);
  if (encoded instanceof Promise) throw new Error("expected an answer at once");
  return encoded;
}

function read(command: Command, options?: EncodeOptions): Record<string, unknown> {
  const { json, bytes } = encode(command, options);
  expect(bytes).toBe(Buffer.byteLength(json));
  return JSON.parse(json);
}

function thrown(act: () => unknown): unknown {
  try {
    act();
  } catch (error) {
    return error;
  }
  throw new Error("nothing was thrown");
}

test("encodeCommand() leaves out what the database assumes by itself", () => {
  const encoded = encode(send({ to: "a" }));
  expect(encoded).toMatchObject({ name: "send", queue: "default", chosenId: false });
  expect(isUuid(encoded.id)).toBe(true);
  expect(encoded.json).toBe(`{"id":"${encoded.id}","name":"send","input":{"to":"a"}}`);
  const bare = encode(ping());
  expect(bare.json).toBe(`{"id":"${bare.id}","name":"ping"}`);
  expect(bare.bytes).toBe(bare.json.length);
});

test("encodeCommand() writes every option under the database's name", () => {
  const full = defineCommand({ name: 'gr"öße 🚀', version: 2 });
  const runAt = new Date("2030-01-02T03:04:05.678Z");
  const metadata = { correlationId: "c", tenant: { plan: "東" } };
  const options = { id, queue: "mail", priority: 0, runAt, timeoutMs: 5, retries: 0, metadata };
  expect(read(full({ a: [1, "ü"] }, options))).toEqual({
    id: id.toLowerCase(),
    name: 'gr"öße 🚀',
    version: 2,
    queue: "mail",
    priority: 0,
    due_at: "2030-01-02T03:04:05.678Z",
    max_attempts: 1,
    timeout_ms: 5,
    input: { a: [1, "ü"] },
    metadata,
  });
  expect(read(ping(null, { delayMs: 1.2 }))).toMatchObject({ delay_ms: 2, null_input: true });
});

test("encodeCommand() takes the command's options before the push's before the contract's", () => {
  const contract = defineCommand({ name: "a", queue: "contract", priority: 1, timeoutMs: 1, retries: 1 });
  expect(read(contract())).toMatchObject({ queue: "contract", priority: 1, timeout_ms: 1, max_attempts: 2 });
  const defaults = { queue: "push", priority: 2, timeoutMs: 2, retries: 2 };
  expect(read(contract(), { defaults })).toMatchObject({ queue: "push", priority: 2, timeout_ms: 2, max_attempts: 3 });
  const options = { queue: "command", priority: 3, timeoutMs: 3, retries: undefined };
  expect(read(contract(null, options), { defaults })).toMatchObject({
    queue: "command",
    priority: 3,
    timeout_ms: 3,
    max_attempts: 3,
  });
  expect(encode(contract(null, options), { defaults }).queue).toBe("command");
});

test("encodeCommand() says a value that only the database would assume where the contract says another", () => {
  const contract = defineCommand({ name: "a", queue: "mail", priority: 1, timeoutMs: 1, retries: 1 });
  const encoded = read(contract(null, { queue: "default", priority: 5, timeoutMs: 60_000, retries: 3 }));
  expect(Object.keys(encoded)).toEqual(["id", "name", "null_input"]);
});

test("encodeCommand() takes a delay and a time as one option", () => {
  const runAt = new Date("2030-01-01");
  const both = read(ping(null, { delayMs: 7 }), { defaults: { runAt } });
  expect(both).toMatchObject({ delay_ms: 7 });
  expect(both).not.toHaveProperty("due_at");
  expect(read(ping(), { defaults: { delayMs: 9 } })).toMatchObject({ delay_ms: 9 });
  expect(read(ping(null, { delayMs: 0 }), { defaults: { runAt } })).not.toHaveProperty("due_at");
});

test("encodeCommand() says that an id was chosen, and lowers its case", () => {
  expect(encode(ping(null, { id }))).toMatchObject({ id: id.toLowerCase(), chosenId: true });
  expect(encode(ping(), { newId: id.toLowerCase(), followUp: true })).toMatchObject({
    id: id.toLowerCase(),
    chosenId: false,
  });
});

test("encodeCommand() refuses a follow-up that chooses its id, and says why", () => {
  const error = thrown(() => encode(ping(null, { id }), { followUp: true }));
  expect(error).toBeInstanceOf(TypeError);
  expect(String(error)).toContain(
    'Cannot push command "ping": a follow-up cannot choose its id: one that stands in somebody\'s open transaction would make the outcome wait',
  );
});

const prefix = 'Cannot push command "ping": ';
const refused: [what: string, options: unknown, error: typeof TypeError | typeof RangeError, message: string][] = [
  ["an id that is no UUID", { id: "order-7" }, TypeError, 'id must be a UUID, got "order-7"'],
  [
    "runAt and delayMs together",
    { runAt: new Date(), delayMs: 5 },
    TypeError,
    "it has both runAt and delayMs (5), of which it can have one",
  ],
  ["runAt as text", { runAt: "2030-01-01" }, TypeError, 'runAt must be a Date, got "2030-01-01"'],
  [
    "an invalid Date",
    { runAt: new Date("?") },
    RangeError,
    "runAt must lie between 1970-01-01 and 9999-12-31, got an invalid Date",
  ],
  [
    "a time before 1970",
    { runAt: new Date(-1) },
    RangeError,
    "runAt must lie between 1970-01-01 and 9999-12-31, got 1969-12-31T23:59:59.999Z",
  ],
  ["a time after 9999", { runAt: new Date("9999-12-31T00:00:00.001Z") }, RangeError, "runAt must lie between"],
  [
    "a negative delay",
    { delayMs: -1 },
    RangeError,
    "delayMs must be a number of milliseconds from 0 to 3155760000000, got -1",
  ],
  [
    "a delay of more than a century",
    { delayMs: 3155760000001 },
    RangeError,
    "delayMs must be a number of milliseconds",
  ],
  ["an endless delay", { delayMs: Number.POSITIVE_INFINITY }, RangeError, "got Infinity"],
  ["a delay that is no number", { delayMs: Number.NaN }, RangeError, "got NaN"],
  ["priority 10", { priority: 10 }, RangeError, "priority must be an integer from 0 to 9, got 10"],
  ["a queue with a space", { queue: "a b" }, RangeError, "queue must be free of white space"],
  ["retries of -1", { retries: -1 }, RangeError, "retries must be an integer from 0 to 32766, got -1"],
  ["a timeout of 0", { timeoutMs: 0 }, RangeError, "timeoutMs must be an integer from 1 to 2147483647, got 0"],
  ["metadata that is a list", { metadata: [] }, TypeError, "metadata must be an object, got an array"],
  [
    "metadata that is no JSON",
    { metadata: { a: { at: new Date() } } },
    TypeError,
    "its metadata is invalid: a.at: a Date is not JSON",
  ],
  [
    "metadata named __proto__",
    { metadata: JSON.parse('{"__proto__": 1}') },
    TypeError,
    "a property named __proto__ is refused",
  ],
  [
    "metadata of 8 KiB and a byte",
    { metadata: { a: "x".repeat(8185) } },
    RangeError,
    "metadata must have at most 8192 bytes as JSON",
  ],
  [
    "a correlation id that is no text",
    { metadata: { correlationId: 5 } },
    TypeError,
    "metadata.correlationId must be a string, got 5",
  ],
  [
    "a time of issue that is a Date",
    { metadata: { issuedAt: new Date() } },
    TypeError,
    "metadata.issuedAt must be a string, got an object",
  ],
  [
    "an actor without a type",
    { metadata: { actor: { id: "u" } } },
    TypeError,
    "metadata.actor must be an object with the strings id and type",
  ],
  [
    "an actor that is null",
    { metadata: { actor: null } },
    TypeError,
    "metadata.actor must be an object with the strings id and type, got null",
  ],
];
for (const [what, options, error, message] of refused) {
  test(`encodeCommand() refuses ${what}, of the command and as a default`, () => {
    const command = () => encode(ping(null, options as CommandOptions));
    expect(command).toThrow(error);
    expect(command).toThrow(prefix);
    expect(command).toThrow(message);
    if (what.startsWith("an id")) return;
    const asDefault = () => encode(ping(), { defaults: options as CommandOptions });
    expect(asDefault).toThrow(error);
    expect(asDefault).toThrow(message);
  });
}

test("encodeCommand() takes options at their limits", () => {
  const metadata = { a: "x".repeat(8184) };
  expect(Buffer.byteLength(JSON.stringify(metadata))).toBe(8192);
  const last = new Date("9999-12-31T00:00:00.000Z");
  expect(read(ping(null, { runAt: last, metadata }))).toMatchObject({ due_at: last.toISOString(), metadata });
  expect(read(ping(null, { runAt: new Date(0) }))).toMatchObject({ due_at: "1970-01-01T00:00:00.000Z" });
  expect(read(ping(null, { delayMs: 3155760000000 }))).toMatchObject({ delay_ms: 3155760000000 });
});

test("encodeCommand() refuses an id as a default, since it belongs to one command", () => {
  expect(() => encode(ping(), { defaults: { id } })).toThrow(
    new TypeError(`${prefix}an id belongs to one command, so it cannot be a default: give it to the command`),
  );
});

test("encodeCommand() lays metadata over what is inherited, key by key", () => {
  const inherited = { correlationId: "c", causationId: "p", source: "web", actor: { id: "u", type: "user" } };
  const metadata = { source: "job", causationId: undefined, tenant: 7 };
  const options = { inherited, defaults: { metadata: { source: "push", region: "eu" } } };
  expect(read(ping(null, { metadata }), options).metadata).toEqual({
    correlationId: "c",
    causationId: "p",
    source: "job",
    actor: { id: "u", type: "user" },
    region: "eu",
    tenant: 7,
  });
  expect(inherited.source).toBe("web");
  expect(read(ping(), { inherited }).metadata).toEqual(inherited);
  expect(read(ping(null, { metadata: {} }))).not.toHaveProperty("metadata");
});

test("encodeCommand() refuses a contract that nobody called, and what is no command", () => {
  expect(() => encode(send as unknown as Command)).toThrow(
    new TypeError('Cannot push command "send": it is a contract that nobody called, give it an input'),
  );
  for (const value of [undefined, null, "send", { name: "send" }, () => 1, [ping()]]) {
    expect(() => encode(value as unknown as Command)).toThrow(TypeError);
  }
});

test("encodeCommand() refuses an invalid input with every issue and its path", () => {
  const contract = defineCommand({ name: "a", input: v.object({ to: v.array(v.string()), n: v.number() }) });
  const error = thrown(() => encode(contract({ to: ["a", 5], n: "x" } as never))) as InvalidInputError;
  expect(error).toBeInstanceOf(InvalidInputError);
  expect(error).toMatchObject({ code: "ORCHESTRATUM_INVALID_INPUT", name: "InvalidInputError", command: "a" });
  expect(error.issues.map(({ path }) => path)).toEqual(["to[1]", "n"]);
  expect(error.message).toMatch(/^Cannot push command "a": its input is invalid: to\[1\]: .*; n: .*/);
});

test("encodeCommand() tells what JSON and what the schema refuse, each place once", () => {
  const error = thrown(() => encode(send({ to: Number.NaN, at: new Date(), more: 1n } as never))) as InvalidInputError;
  expect(error.issues).toEqual([
    { path: "to", message: "NaN is not JSON: pass null, or leave the property out" },
    { path: "at", message: expect.stringContaining("a Date is not JSON") },
    { path: "more", message: expect.stringContaining("a BigInt is not JSON") },
  ]);
  const both = thrown(() => encode(send({ to: 5, at: new Date() } as never))) as InvalidInputError;
  expect(both.issues.map(({ path }) => path)).toEqual(["at", "to"]);
});

test("encodeCommand() keeps cycles and depth from the schema", () => {
  type Tree = { child?: Tree | undefined };
  const tree: v.GenericSchema<Tree> = v.object({ child: v.optional(v.lazy(() => tree)) });
  const grow = defineCommand({ name: "grow", input: tree });
  let deep: Tree = {};
  for (let i = 0; i < 50_000; i++) deep = { child: deep };
  expect(() => encode(grow(deep))).toThrow(/nested deeper than 64 levels/);
  const cyclic: Tree = {};
  cyclic.child = cyclic;
  expect(() => encode(grow(cyclic))).toThrow(/child: a cycle/);
});

test("encodeCommand() takes an input of 256 KiB, and refuses one byte more", () => {
  const text = (bytes: number) => "x".repeat(bytes - 2);
  expect(encode(ping(text(262_144))).bytes).toBeGreaterThan(262_144);
  expect(() => encode(ping(text(262_145)))).toThrow(/more than 262144 bytes as JSON/);
});

test("encodeCommand() stores what the caller gave, not what the schema makes of it", () => {
  const contract = defineCommand({
    name: "a",
    input: v.pipe(
      v.object({ n: v.pipe(v.string(), v.transform(Number)), d: v.optional(v.number(), 5) }),
      v.transform(({ n }) => n),
    ),
  });
  expect(read(contract({ n: "1" })).input).toEqual({ n: "1" });
});

test("encodeCommand() stores what the caller gave before a schema changed it in place", () => {
  const validate = (value: unknown) => {
    (value as { secret: string }).secret = "changed";
    return { value };
  };
  const contract = defineCommand({ name: "a", input: { "~standard": { version: 1, vendor: "test", validate } } });
  expect(read(contract({ secret: "given" })).input).toEqual({ secret: "given" });
});

test("encodeCommand() validates an input that was not given", () => {
  expect(() => encode((send as unknown as () => Command)())).toThrow(InvalidInputError);
  const optional = defineCommand({ name: "a", input: v.optional(v.number(), 5) });
  expect(read(optional())).not.toHaveProperty("input");
});

test("encodeCommand() waits for an asynchronous schema, and stores what was given at the call", async () => {
  const contract = defineCommand({
    name: "a",
    input: v.objectAsync({
      to: v.pipeAsync(
        v.string(),
        v.checkAsync(async (to) => to !== "b", "not b"),
      ),
    }),
  });
  const input = { to: "a" };
  const encoding = encodeCommand(contract(input));
  expect(encoding).toBeInstanceOf(Promise);
  input.to = "changed";
  expect(JSON.parse((await encoding).json).input).toEqual({ to: "a" });
  await expect(encodeCommand(contract({ to: "b" }))).rejects.toMatchObject({
    code: "ORCHESTRATUM_INVALID_INPUT",
    issues: [{ path: "to", message: "not b" }],
  });
});
