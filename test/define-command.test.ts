import * as v from "valibot";
import { expect, test } from "vitest";
import { isCommand, isKind } from "../src/command.ts";
import { type Definition, defineCommand, defineCommands, isContract } from "../src/define-command.ts";

const schema = v.object({ to: v.string() });

test("defineCommand() carries what was defined, with the defaults of the field", () => {
  const ping = defineCommand({ name: "ping" });
  expect(ping.name).toBe("ping");
  expect({ ...ping }).toMatchObject({ version: 1, input: undefined, output: undefined, upgrade: undefined });
  expect(ping.defaults).toEqual({ queue: "default", priority: 5, timeoutMs: 60_000, retries: 3, backoff: {} });

  const backoff = () => 5;
  const full = defineCommand({
    name: "größe 東京",
    version: 3,
    input: schema,
    output: v.number(),
    queue: "mail",
    priority: 0,
    timeoutMs: 1,
    retries: 0,
    backoff,
    upgrade: (old: string, fromVersion) => ({ to: `${old} ${fromVersion}` }),
  });
  expect(full.name).toBe("größe 東京");
  expect({ ...full }).toMatchObject({ version: 3, input: schema });
  expect(full.defaults).toEqual({ queue: "mail", priority: 0, timeoutMs: 1, retries: 0, backoff });
  expect(full.upgrade?.("a", 2)).toEqual({ to: "a 2" });
});

test("defineCommand() makes a function that makes frozen commands", () => {
  const send = defineCommand({ name: "send", input: schema });
  const input = { to: "a" };
  const options = { priority: 2 };
  const command = send(input, options);
  expect({ ...command }).toEqual({ contract: send, input: { to: "a" }, options: { priority: 2 } });
  expect(command.input).toBe(input);
  expect(Object.isFrozen(command) && Object.isFrozen(command.options)).toBe(true);
  options.priority = 9;
  expect(command.options.priority).toBe(2);
  expect(send({ to: "b" }).options).toEqual({});
  expect(Object.isFrozen(send)).toBe(true);
});

test("isContract() and isCommand() tell contracts, commands and all else apart", () => {
  const send = defineCommand({ name: "send", input: schema });
  expect([isContract(send), isCommand(send)]).toEqual([true, false]);
  expect([isContract(send({ to: "a" })), isCommand(send({ to: "a" }))]).toEqual([false, true]);
  const hostile = new Proxy(
    {},
    {
      get() {
        throw new Error("trapped");
      },
    },
  );
  for (const other of [null, undefined, "send", () => 1, {}, { contract: {} }, hostile]) {
    expect([isContract(other), isCommand(other), isKind(other, "handler")]).toEqual([false, false, false]);
  }
});

type Refusal = [field: string, definition: unknown, error: typeof TypeError | typeof RangeError, message: string];
const refused: Refusal[] = [
  ["no name", {}, TypeError, "Cannot define command: name must be a string, got undefined"],
  ["an empty name", { name: "" }, RangeError, "Cannot define command: name must have 1 to 200 characters, got 0"],
  ["a long name", { name: "n".repeat(201) }, RangeError, "name must have 1 to 200 characters, got 201"],
  ["a name with a control character", { name: "a\nb" }, RangeError, "name must be free of control characters"],
  ["a name with NUL", { name: "a\0" }, RangeError, "name must be free of control characters"],
  ["a lone surrogate", { name: "a\ud800" }, RangeError, "name must be well-formed Unicode"],
  [
    "version 0",
    { version: 0 },
    RangeError,
    'Cannot define command "a": version must be an integer from 1 to 32767, got 0',
  ],
  ["version 32768", { version: 32_768 }, RangeError, "version must be an integer from 1 to 32767, got 32768"],
  ["version as text", { version: "2" }, TypeError, 'version must be an integer from 1 to 32767, got "2"'],
  ["negative retries", { retries: -1 }, RangeError, "retries must be an integer from 0 to 32766, got -1"],
  ["too many retries", { retries: 32_767 }, RangeError, "retries must be an integer from 0 to 32766, got 32767"],
  ["half a retry", { retries: 1.5 }, RangeError, "retries must be an integer from 0 to 32766, got 1.5"],
  [
    "no timeout at all",
    { timeoutMs: Infinity },
    RangeError,
    "timeoutMs must be an integer from 1 to 2147483647, got Infinity",
  ],
  ["a timeout of 0", { timeoutMs: 0 }, RangeError, "timeoutMs must be an integer from 1 to 2147483647, got 0"],
  ["a long timeout", { timeoutMs: 2 ** 31 }, RangeError, "timeoutMs must be an integer from 1 to 2147483647"],
  ["priority 10", { priority: 10 }, RangeError, "priority must be an integer from 0 to 9, got 10"],
  ["priority -1", { priority: -1 }, RangeError, "priority must be an integer from 0 to 9, got -1"],
  ["an empty queue", { queue: "" }, RangeError, "queue must have 1 to 100 characters, got 0"],
  ["a long queue", { queue: "q".repeat(101) }, RangeError, "queue must have 1 to 100 characters, got 101"],
  [
    "a queue with a space",
    { queue: "a b" },
    RangeError,
    'queue must be free of white space and control characters, got "a b"',
  ],
  ["a queue with a control character", { queue: "a\u0007" }, RangeError, "queue must be free of white space"],
  ["a queue as number", { queue: 5 }, TypeError, "queue must be a string, got 5"],
  [
    "a schema that is none",
    { input: { type: "object" } },
    TypeError,
    "input must be a Standard Schema (valibot, zod, arktype), got an object",
  ],
  ["an output schema that is none", { output: null }, TypeError, "output must be a Standard Schema"],
  ["an upgrade that is none", { upgrade: 1 }, TypeError, "upgrade must be a function, got 1"],
  ["a backoff of a number", { backoff: 5_000 }, TypeError, "backoff must be an object or a function, got 5000"],
  [
    "a negative backoff",
    { backoff: { initialMs: -1 } },
    RangeError,
    "backoff.initialMs must be a number of milliseconds from 0 to",
  ],
  [
    "a cap that is no number",
    { backoff: { maxMs: Number.NaN } },
    RangeError,
    "backoff.maxMs must be a number of milliseconds",
  ],
  [
    "a shrinking backoff",
    { backoff: { factor: 0.5 } },
    RangeError,
    "backoff.factor must be a number from 1 up, got 0.5",
  ],
  ["half a jitter", { backoff: { jitter: "half" } }, TypeError, 'backoff.jitter must be "full" or "none", got "half"'],
  ["a slip of the pen", { retry: 3 }, TypeError, 'Cannot define command "a": there is no option "retry", only name, '],
];
for (const [what, definition, error, message] of refused) {
  test(`defineCommand() refuses ${what}`, () => {
    const whole = what === "no name" ? {} : { name: "a", ...(definition as object) };
    const define = () => defineCommand(whole as Definition & { name: string });
    expect(define).toThrow(error);
    expect(define).toThrow(message);
  });
}

test("defineCommand() takes everything at its limits", () => {
  const most = { version: 32_767, retries: 32_766, timeoutMs: 2_147_483_647, priority: 9, queue: "q".repeat(100) };
  expect(defineCommand({ name: "n".repeat(200), ...most }).defaults).toMatchObject({ retries: 32_766, priority: 9 });
  expect(defineCommand({ name: "東", version: 1, retries: 0, timeoutMs: 1, priority: 0, queue: "東" }).version).toBe(1);
});

test("defineCommands() names commands by their keys in snake_case without the suffix Command", () => {
  const names: Record<string, string> = {
    sendEmail: "send_email",
    ChargeCardCommand: "charge_card",
    parseHTMLPage: "parse_html_page",
    sendV2Email: "send_v2_email",
    already_snake: "already_snake",
    "kebab-case": "kebab_case",
    Command: "command",
    commandCentre: "command_centre",
    "billing.ChargeCard": "billing.charge_card",
    größeÄndern: "größe_ändern",
  };
  const contracts = defineCommands(Object.fromEntries(Object.keys(names).map((key) => [key, {}])));
  expect(Object.fromEntries(Object.entries(contracts).map(([key, { name }]) => [key, name]))).toEqual(names);
});

test("defineCommands() lets a name that was written win, and keeps the rest of the definition", () => {
  const { sendEmail, clean } = defineCommands({
    sendEmail: { name: "mail.send", input: schema, retries: 7, version: 2, upgrade: () => ({ to: "new" }) },
    clean: { queue: "nightly" },
  });
  expect({ ...sendEmail }).toMatchObject({ version: 2, input: schema, defaults: { retries: 7 } });
  expect(sendEmail.name).toBe("mail.send");
  expect(sendEmail.upgrade?.(null, 1)).toEqual({ to: "new" });
  expect(clean({ any: "json" }).contract.defaults.queue).toBe("nightly");
});

test("defineCommands() refuses two keys that give one name", () => {
  const define = () => defineCommands({ sendEmail: {}, SendEmailCommand: {} });
  expect(define).toThrow(TypeError);
  expect(define).toThrow('Cannot define commands: "sendEmail" and "SendEmailCommand" both give the name "send_email"');
  expect(() => defineCommands({ a: { name: "b" }, b: {} })).toThrow('"a" and "b" both give the name "b"');
});
