import * as v from "valibot";
import { expect, test } from "vitest";
import { systemClock } from "../src/clock.ts";
import { defineCommand } from "../src/define-command.ts";
import { createExecuteOnce } from "../src/execute-once.ts";
import { cancel, type Handler, withMiddleware } from "../src/handler.ts";
import { createRegistry } from "../src/registry.ts";
import { createFakeClock } from "./fake-clock.ts";

function executing(handlers: readonly Handler[], clock = systemClock) {
  const running = new Map(handlers.map((handler) => [handler, withMiddleware(handler, [])]));
  const registry = createRegistry([...running.values()]);
  return createExecuteOnce({ handlers: running, registry, clock, report() {} });
}

const greet = defineCommand({ name: "greet", input: v.object({ to: v.string() }), output: v.string() });
const greetHandler = greet.handle(({ input }) => `Hello ${input.to}`);

test("execute() answers the output, and what the attempt is told", async () => {
  const told: unknown[] = [];
  const { execute } = executing([
    greet.handle(({ input, id, attempt, fence }) => {
      told.push(id, attempt, fence);
      return input.to;
    }),
  ]);
  const id = "0197a000-0000-7000-8000-000000000001";
  const { outcome, followUps, hook } = await execute(greet({ to: "Ada" }, { id }), { attempt: 3 });
  expect({ outcome, followUps, hook }).toEqual({
    outcome: { status: "succeeded", output: "Ada" },
    followUps: [],
    hook: undefined,
  });
  expect(told).toEqual([id, 3, 1]);
});

test.each([
  [undefined, "Cannot execute: a command is wanted, got undefined"],
  [{ name: "greet" }, "Cannot execute: a command is wanted, got "],
  [greet, "Cannot execute: a command is wanted, got a contract: call it with an input"],
  [[greet({ to: "a" })], "Cannot execute: a command is wanted, got "],
  [
    defineCommand({ name: "other" })(),
    'Cannot execute command "other" version 1: no handler is registered here, pass one to',
  ],
  [
    defineCommand({ name: "greet", version: 2 })(),
    'Cannot execute command "greet" version 2: no handler is registered here',
  ],
])("execute() refuses what it cannot run (%#)", async (command, reason) => {
  const refused = executing([greetHandler]).execute(command as never);
  await expect(refused).rejects.toThrow(TypeError);
  await expect(refused).rejects.toThrow(reason);
});

test.each([0, 32_768, 1.5, Number.NaN])("execute() refuses attempt %s", async (attempt) => {
  const { execute } = executing([greetHandler]);
  await expect(execute(greet({ to: "a" }), { attempt })).rejects.toThrow(/^Cannot execute: attempt must be /);
});

test("execute() refuses an input as push does, and does not run the handler", async () => {
  let runs = 0;
  const { execute } = executing([greet.handle(() => `${++runs}`)]);
  for (const input of [{ to: 1 }, {}, undefined, { to: "a\0" }]) {
    await expect(execute(greet(input as never))).rejects.toMatchObject({ code: "ORCHESTRATUM_INVALID_INPUT" });
  }
  expect(runs).toBe(0);
});

test("execute() is over at its timeout, by its clock, and leaves no timer behind", async () => {
  const clock = createFakeClock();
  let aborted: unknown;
  const forever = defineCommand({ name: "forever", timeoutMs: 1_000 });
  const { execute } = executing(
    [
      forever.handle(({ signal }) => {
        signal.addEventListener("abort", () => {
          aborted = (signal.reason as { code: string }).code;
        });
        return new Promise<void>(() => {});
      }),
    ],
    clock,
  );
  const executed = execute(forever());
  await clock.advance(999);
  expect(aborted).toBe(undefined);
  await clock.advance(1);
  expect((await executed).outcome).toMatchObject({ status: "timed_out", error: { code: "timed_out" } });
  expect([aborted, clock.pending]).toEqual(["ORCHESTRATUM_TIMED_OUT", 0]);
});

test("no handler is called whose attempt was cancelled, or had timed out, before its turn came", async () => {
  const clock = createFakeClock();
  let calls = 0;
  let open = () => {};
  const opened = new Promise<void>((resolve) => {
    open = resolve;
  });
  const over: unknown[] = [];
  const slow = defineCommand({ name: "slow", timeoutMs: 1_000 });
  const { execute } = executing(
    [
      slow.handle(() => void calls++, {
        middleware: [
          {
            async execute({ rawInput }, next) {
              if (rawInput === "wait") await opened;
              over.push(await next());
            },
          },
        ],
      }),
    ],
    clock,
  );
  const cancelled = await execute(slow(), { signal: AbortSignal.abort() });
  expect(cancelled.outcome).toMatchObject({ status: "cancelled", error: undefined });
  const timedOut = execute(slow("wait"));
  await clock.advance(1_000);
  expect((await timedOut).outcome).toMatchObject({ status: "timed_out" });
  open();
  await clock.advance(0);
  expect(over).toMatchObject([
    { kind: "failed", error: { code: "ORCHESTRATUM_CANCELLED" } },
    { kind: "failed", error: { code: "ORCHESTRATUM_TIMED_OUT" } },
  ]);
  expect(calls).toBe(0);
});

test("execute() lets no finish be recorded, since it holds no lease", async () => {
  const { execute } = executing([
    greet.handle(async ({ finish }) => await finish({ query: async () => [] } as never, "x")),
  ]);
  expect((await execute(greet({ to: "a" }))).outcome).toMatchObject({
    status: "failed",
    error: { message: 'Cannot finish command "greet" in a transaction: it runs without a lease' },
  });
});

test("execute() runs the hook of a bad end, and tells what became of it", async () => {
  const undo = defineCommand({ name: "undo" });
  const book = defineCommand({ name: "book", retries: 5 });
  const { execute } = executing([
    book.handle(({ input }) => (input === "cancel" ? cancel("not wanted") : Promise.reject(new Error("full"))), {
      onFailure: ({ error }) => undo({ why: error?.message ?? "" }),
      onCancellation() {
        throw new Error("no");
      },
    }),
  ]);
  const failed = await execute(book());
  expect(failed).toMatchObject({
    outcome: { status: "failed" },
    hook: { kind: "failure", outcome: { status: "succeeded" } },
  });
  expect(failed.followUps.map(({ name, input }) => [name, input])).toEqual([["undo", { why: "full" }]]);
  expect(await execute(book("cancel"))).toMatchObject({
    outcome: { status: "cancelled" },
    followUps: [],
    hook: { kind: "cancellation", outcome: { status: "failed", error: { message: "no" } } },
  });
});

test("handlerOf() gives the handler as it was given: of the version, of a newer one that upgrades, or the newest", () => {
  const version = (number: number) => defineCommand({ name: "letter", version: number }).handle(() => {});
  const [first, fourth] = [version(1), version(4)];
  const third = defineCommand({ name: "letter", version: 3, upgrade: (old: never) => old }).handle(() => {});
  const { handlerOf } = executing([third, first, fourth]);
  expect(handlerOf("letter")).toBe(fourth);
  expect(handlerOf("letter", 1)).toBe(first);
  expect(handlerOf("letter", 2)).toBe(third);
  expect(handlerOf("letter", 5)).toBe(undefined);
  expect(handlerOf("other")).toBe(undefined);
});
