import * as v from "valibot";
import { expect, test } from "vitest";
import { defineCommand } from "../src/define-command.ts";
import { type Execution, type ExecutionResult, execute } from "../src/execute.ts";
import { errorRecord, PermanentFailure } from "../src/failure.ts";
import { cancel, type Handler, type HandlerContext, snooze } from "../src/handler.ts";

const id = "0197a000-0000-7000-8000-000000000001";
const parentId = "0197a000-0000-7000-8000-000000000002";
const silent = { debug() {}, info() {}, warn() {}, error() {} };

/** One attempt, with what is not said as it is in most. */
function attempt(handler: Handler, execution: Partial<Execution> = {}): Promise<ExecutionResult> {
  return execute(handler, {
    id,
    name: handler.contract.name,
    version: handler.contract.version,
    hook: null,
    fence: 3,
    attempt: 2,
    parentId: null,
    input: null,
    metadata: null,
    queue: "default",
    worker: undefined,
    deadline: new Date(0),
    signal: new AbortController().signal,
    begin: () => true,
    progress: () => {},
    logger: silent,
    ...execution,
  });
}

async function succeeded(result: Promise<ExecutionResult>) {
  const it = await result;
  if (it.kind !== "succeeded") throw new Error(`It is ${it.kind}`, { cause: "error" in it ? it.error : undefined });
  return { output: it.output, followUps: it.followUps.map(({ json }) => JSON.parse(json) as Record<string, any>) };
}

async function failed(result: Promise<ExecutionResult>) {
  const it = await result;
  if (it.kind !== "failed") throw new Error(`It is ${it.kind}`);
  return { ...errorRecord(it.error), permanent: it.permanent, error: it.error };
}

const note = defineCommand({ name: "note", input: v.optional(v.string()) });
const plain = defineCommand({ name: "plain" });

test("execute() gives the handler its input as the schema answers it, and who it is", async () => {
  const contract = defineCommand({
    name: "a",
    input: v.object({
      at: v.pipe(
        v.string(),
        v.transform((t) => new Date(t)),
      ),
    }),
  });
  let got: HandlerContext<{ at: Date }> | undefined;
  const handler = contract.handle((context) => {
    got = context;
  });
  await succeeded(attempt(handler, { input: '{"at":"2026-01-01"}', metadata: '{"correlationId":"c","source":"s"}' }));
  expect(got?.input).toEqual({ at: new Date("2026-01-01") });
  expect([got?.id, got?.name, got?.attempt, got?.fence]).toEqual([id, "a", 2, 3]);
  expect(got?.metadata).toEqual({ correlationId: "c", source: "s" });
  expect(got?.deadline).toEqual(new Date(0));
  expect(got?.signal).toBeInstanceOf(AbortSignal);
});

test("execute() lets the context be taken apart", async () => {
  const handler = plain.handle(({ push, metadata, progress, signal, logger }) => {
    progress(1);
    logger.info("x");
    push(note());
    return [metadata, signal];
  });
  expect((await succeeded(attempt(handler))).followUps).toHaveLength(1);
});

test("execute() refuses an input that the schema does not take for good, before the handler runs", async () => {
  let ran = false;
  const handler = defineCommand({ name: "a", input: v.object({ n: v.number() }) }).handle(() => {
    ran = true;
  });
  const error = await failed(attempt(handler, { input: '{"n":"1"}' }));
  expect(error).toMatchObject({ permanent: true, code: "invalid_input", name: "ContractError" });
  expect(error.message).toMatch(/^Cannot execute command "a": its input is invalid: n: /);
  expect(ran).toBe(false);
});

test("execute() upgrades the input of an older version, and no other", async () => {
  const handler = defineCommand({
    name: "a",
    version: 3,
    input: v.object({ name: v.string() }),
    output: v.string(),
    upgrade: async (old, from) => ({ name: `${(old as { title: string }).title} from ${from}` }),
  }).handle(({ input }) => input.name);
  expect((await succeeded(attempt(handler, { version: 1, input: '{"title":"x"}' }))).output).toBe('"x from 1"');
  expect((await succeeded(attempt(handler, { version: 3, input: '{"name":"y"}' }))).output).toBe('"y"');
});

test("execute() tries an upgrade that throws again, but not an upgrade to what the schema refuses", async () => {
  const upgrading = (upgrade: (old: unknown) => unknown) =>
    defineCommand({ name: "a", version: 2, input: v.string(), upgrade: upgrade as () => string }).handle(() => {});
  const throws = upgrading(() => {
    throw new Error("no");
  });
  expect(await failed(attempt(throws, { version: 1, input: "1" }))).toMatchObject({ permanent: false, message: "no" });
  expect(
    await failed(
      attempt(
        upgrading(() => 5),
        { version: 1, input: "1" },
      ),
    ),
  ).toMatchObject({ permanent: true });
});

test("execute() records the output as it was returned, not as the schema answers it", async () => {
  const contract = defineCommand({
    name: "a",
    output: v.object({
      n: v.pipe(
        v.number(),
        v.transform((n) => n * 2),
      ),
    }),
  });
  let seen: unknown;
  const handler = contract.handle(() => ({ n: 21 }), { onSuccess: ({ output }) => void (seen = output) });
  expect((await succeeded(attempt(handler))).output).toBe('{"n":21}');
  expect(seen).toEqual({ n: 42 });
});

test("execute() stores nothing without an output schema, whatever is returned", async () => {
  const cyclic: Record<string, unknown> = { big: 1n, at: new Date() };
  cyclic.self = cyclic;
  let seen: unknown = "unseen";
  const handler = plain.handle(() => cyclic, { onSuccess: ({ output }) => void (seen = output) });
  expect((await succeeded(attempt(handler))).output).toBeUndefined();
  expect(seen).toBeUndefined();
});

test("execute() fails an attempt whose output the schema refuses, and may try again", async () => {
  const handler = defineCommand({ name: "a", output: v.object({ n: v.number() }) }).handle(() => ({ n: "1" }) as never);
  const error = await failed(attempt(handler));
  expect(error).toMatchObject({ permanent: false, code: "invalid_output" });
  expect(error.message).toMatch(/^Cannot record the output of command "a": it is invalid: n: /);
});

test("execute() fails an attempt whose output JSON would change", async () => {
  const cyclic: unknown[] = [];
  cyclic.push(cyclic);
  const deep = JSON.parse(`${"[".repeat(65)}${"]".repeat(65)}`) as unknown;
  const poisoned = JSON.parse('{"__proto__": 1}') as unknown;
  const zoo = [1n, new Date(), Number.NaN, new Map(), "\0", "\ud800", cyclic, deep, poisoned, () => {}, Symbol("x")];
  for (const value of [...zoo, "x".repeat(256 * 1024)]) {
    const handler = defineCommand({ name: "a", output: v.any() }).handle(() => value);
    expect(await failed(attempt(handler))).toMatchObject({ permanent: false, code: "invalid_output" });
  }
});

test("execute() takes what a handler throws, whatever it is", async () => {
  const hostile = new Proxy(
    {},
    {
      get() {
        throw new Error("hostile");
      },
    },
  );
  const throwing = {
    get code(): string {
      throw new Error("hostile");
    },
  };
  for (const thrown of [null, undefined, "text", 5, 1n, Symbol("s"), {}, [], hostile, throwing, Object.create(null)]) {
    const handler = plain.handle(() => {
      throw thrown;
    });
    const result = await attempt(handler);
    expect(result).toMatchObject({ kind: "failed", permanent: false });
    expect((result as { error: unknown }).error === thrown).toBe(true);
  }
});

test("execute() does not retry a PermanentFailure, and does what only looks like a refused input", async () => {
  const permanent = plain.handle(() => Promise.reject(new PermanentFailure("gone")));
  expect(await failed(attempt(permanent))).toMatchObject({ permanent: true, message: "gone" });
  const alike = plain.handle(() => Promise.reject(Object.assign(new Error("theirs"), { code: "invalid_input" })));
  expect(await failed(attempt(alike))).toMatchObject({ permanent: false, code: "invalid_input" });
});

test("execute() ends as the handler says: snoozed or cancelled, without its follow-ups", async () => {
  const ends = [snooze({ delayMs: 5 }), cancel("why")];
  for (const end of ends) {
    let hooked = false;
    const handler = defineCommand({ name: "a", output: v.number() }).handle(
      ({ push }) => {
        push(note());
        return end;
      },
      { onSuccess: () => void (hooked = true) },
    );
    const result = await attempt(handler);
    expect(result).toEqual({ kind: end === ends[0] ? "snoozed" : "cancelled", end });
    expect(hooked).toBe(false);
  }
});

test("execute() fails the attempt where onSuccess throws", async () => {
  const handler = plain.handle(() => {}, {
    onSuccess: async () => {
      throw new Error("hook");
    },
  });
  expect(await failed(attempt(handler))).toMatchObject({ message: "hook", permanent: false });
});

test("follow-ups come from push and onSuccess, with their parent and what travels along the chain", async () => {
  let pushedId = "";
  const handler = plain.handle(
    ({ push }) => {
      pushedId = push(note("pushed", { metadata: { source: "own" } })).id;
    },
    { onSuccess: () => [note("hooked"), note(undefined, { queue: "other" })] },
  );
  const metadata = '{"correlationId":"chain","causationId":"older","source":"parent"}';
  const { followUps } = await succeeded(attempt(handler, { metadata }));
  expect(followUps).toMatchObject([
    {
      id: pushedId,
      parent_id: id,
      input: "pushed",
      metadata: { correlationId: "chain", causationId: id, source: "own" },
    },
    { parent_id: id, input: "hooked", metadata: { correlationId: "chain", causationId: id, source: "parent" } },
    { parent_id: id, queue: "other" },
  ]);
  const alone = await succeeded(attempt(handler));
  expect(alone.followUps[1]?.metadata).toEqual({ correlationId: id, causationId: id });
});

test("push() after the handler has returned is refused", async () => {
  let late: HandlerContext["push"] | undefined;
  const handler = plain.handle(({ push }) => {
    late = push;
  });
  await succeeded(attempt(handler));
  expect(() => late?.(note())).toThrow('Cannot push a follow-up of command "plain": its handler has returned already');
  const failing = plain.handle(({ push }) => {
    late = push;
    throw new Error("x");
  });
  await failed(attempt(failing));
  expect(() => late?.(note())).toThrow("returned already");
});

test("follow-ups are refused by the schema at the call, and with the attempt where it answers later", async () => {
  const now = plain.handle(({ push }) => void push(note(5 as never)));
  expect(await failed(attempt(now))).toMatchObject({ code: "ORCHESTRATUM_INVALID_INPUT" });
  const slow = v.pipeAsync(
    v.string(),
    v.checkAsync(async () => false, "refused"),
  );
  const lateContract = defineCommand({ name: "late", input: slow as never as v.StringSchema<undefined> });
  const later = plain.handle(({ push }) => void push(lateContract("x")));
  expect((await failed(attempt(later))).message).toContain("refused");
  // And where the handler throws something else first, the later refusal is nobody's, and must not end the process.
  const both = plain.handle(({ push }) => {
    push(lateContract("x"));
    throw new Error("first");
  });
  expect((await failed(attempt(both))).message).toBe("first");
  await new Promise((resolve) => setImmediate(resolve));
});

test("follow-ups cannot choose their ids", async () => {
  const handler = plain.handle(({ push }) => void push(note("x", { id })));
  expect((await failed(attempt(handler))).message).toContain("cannot choose its id");
});

test("follow-ups are at most 1,000 and 8 MB", async () => {
  const many = (count: number) =>
    plain.handle(() => {}, { onSuccess: () => Array.from({ length: count }, () => note()) });
  expect((await succeeded(attempt(many(1_000)))).followUps).toHaveLength(1_000);
  expect((await failed(attempt(many(1_001)))).message).toBe(
    'Cannot follow command "plain" by more than 1000 commands: let a command go on with the rest',
  );
  const large = plain.handle(() => {}, {
    onSuccess: () => Array.from({ length: 32 }, () => note("x".repeat(255_000))),
  });
  expect((await failed(attempt(large))).message).toMatch(
    /by \d+ bytes of commands and events: at most 8000000 are allowed/,
  );
});

test("onSuccess may return a command, a list or nothing, and nothing else", async () => {
  const returning = (value: unknown) => plain.handle(() => {}, { onSuccess: () => value as undefined });
  for (const [value, count] of [
    [note(), 1],
    [[note(), note()], 2],
    [[], 0],
    [undefined, 0],
    [null, 0],
  ] as const)
    expect((await succeeded(attempt(returning(value)))).followUps).toHaveLength(count);
  expect((await failed(attempt(returning(note)))).message).toContain("got a contract: call it with an input");
  expect((await failed(attempt(returning("x")))).message).toContain("must return commands or events, got string");
});

const hooked = defineCommand({ name: "a", input: v.object({ n: v.number() }) });

test("a hook command runs its hook with how its parent ended, and not the handler", async () => {
  let ran = false;
  const seen: unknown[] = [];
  const handler = hooked.handle(() => void (ran = true), {
    onFailure: ({ id: whose, name, input, rawInput, status, error }) => {
      seen.push({ whose, name, input, rawInput, status, error });
      return note("failed");
    },
    onCancellation: ({ status }) => void seen.push(status),
  });
  const error = { code: "error", message: "m" };
  const failure = JSON.stringify({ input: { n: 1, extra: true }, status: "timed_out", error });
  const { followUps, output } = await succeeded(attempt(handler, { hook: "failure", parentId, input: failure }));
  expect(seen).toEqual([
    { whose: parentId, name: "a", input: { n: 1 }, rawInput: { n: 1, extra: true }, status: "timed_out", error },
  ]);
  expect(followUps).toMatchObject([{ parent_id: id, input: "failed", metadata: { causationId: id } }]);
  expect(output).toBeUndefined();
  const cancellation = '{"input":{"n":1},"status":"cancelled","error":null}';
  await succeeded(attempt(handler, { hook: "cancellation", parentId, input: cancellation }));
  expect(seen[1]).toBe("cancelled");
  expect(ran).toBe(false);
});

test("a hook command gets the raw input where this version refuses it", async () => {
  const seen: unknown[] = [];
  const handler = hooked.handle(() => {}, {
    onFailure: ({ input, rawInput, error }) => void seen.push([input, rawInput, error]),
  });
  const input = '{"input":{"n":"one"},"status":"failed","error":null}';
  await succeeded(attempt(handler, { hook: "failure", parentId, input }));
  expect(seen).toEqual([[undefined, { n: "one" }, undefined]]);
});

test("a hook command whose hook is gone succeeds, and one whose hook throws fails", async () => {
  const input = '{"input":{"n":1},"status":"failed","error":null}';
  const without = hooked.handle(() => {});
  expect((await succeeded(attempt(without, { hook: "failure", parentId, input }))).followUps).toEqual([]);
  const throwing = hooked.handle(() => {}, {
    onFailure: () => {
      throw new Error("hook");
    },
  });
  expect(await failed(attempt(throwing, { hook: "failure", parentId, input }))).toMatchObject({ message: "hook" });
});

test("execute() gives the handler, and what follows, the metadata that middleware goes on with", async () => {
  const seen: unknown[] = [];
  const handler = plain.handle(
    ({ metadata, push }) => {
      seen.push(metadata.shop);
      push(plain());
    },
    {
      middleware: [
        { execute: ({ metadata }, next) => next({ ...metadata, shop: "north" }) },
        {
          execute: ({ metadata }, next) => {
            seen.push(metadata.shop);
            return next();
          },
        },
      ],
    },
  );
  const { followUps } = await succeeded(attempt(handler, { metadata: '{"shop":"south","own":1}' }));
  expect(seen).toEqual(["north", "north"]);
  expect(followUps[0]?.metadata).toEqual({ correlationId: id, causationId: id, shop: "north", own: 1 });

  const wrong = plain.handle(() => {}, {
    middleware: [{ name: "odd", execute: (_, next) => next("north" as never) }],
  });
  expect((await failed(attempt(wrong))).message).toBe(
    'Cannot go on with middleware "odd": metadata must be an object, got "north"',
  );
});
