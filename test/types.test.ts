/**
 * What must compile and what must not: checked by tsc, where an expected error that does not come is an error itself.
 * Nothing here runs but the one test at the end.
 */

import * as v from "valibot";
import { expect, test } from "vitest";
import type { Command, CommandId, OutputOf } from "../src/command.ts";
import { type Contract, defineCommand, defineCommands } from "../src/define-command.ts";
import type { Queryable } from "../src/driver.ts";
import type { Executed, ExecuteOnce, FollowUp } from "../src/execute-once.ts";
import { type Handler, handlersOf, snooze } from "../src/handler.ts";
import type {
  Attempted,
  CommandOutcome,
  Metadata,
  Middleware,
  Orchestrator,
  OrchestratorOptions,
  Pushed,
} from "../src/index.ts";

const sendEmail = defineCommand({
  name: "send_email",
  input: v.object({ to: v.string(), tries: v.optional(v.number(), 1) }),
});

const generateReport = defineCommand({
  name: "generate_report",
  input: v.object({ month: v.pipe(v.string(), v.transform(Number)) }),
  output: v.object({ reportId: v.pipe(v.string(), v.transform(Number)) }),
});

const ping = defineCommand({ name: "ping" });

/** Compiles only where both are the same type. */
type Same<A, B> = (<T>() => T extends A ? 1 : 2) extends <T>() => T extends B ? 1 : 2 ? true : false;
declare function same<A, B>(proof: Same<A, B>): void;

/** Never called: the compiler reads it. */
export async function inputs(orchestrator: Orchestrator) {
  sendEmail({ to: "a" });
  sendEmail({ to: "a", tries: 2 }, { priority: 0, delayMs: 5, metadata: { correlationId: "c", tenant: 7 } });
  // @ts-expect-error a wrong type
  sendEmail({ to: 1 });
  // @ts-expect-error a missing property
  sendEmail({});
  // @ts-expect-error a property that the schema does not know
  sendEmail({ to: "a", cc: "b" });
  // @ts-expect-error no input
  sendEmail();
  // @ts-expect-error an option that does not exist
  sendEmail({ to: "a" }, { delay: 5 });
  // @ts-expect-error metadata that is not JSON
  sendEmail({ to: "a" }, { metadata: { at: new Date() } });
  ping();
  ping({ any: ["json", null, 1] }, { queue: "q" });
  // @ts-expect-error without a schema it must be JSON at least
  ping({ at: new Date() });

  await orchestrator.push(sendEmail({ to: "a" }));
  // @ts-expect-error a contract that nobody called
  await orchestrator.push(sendEmail);
  // @ts-expect-error a contract that nobody called, in a list
  await orchestrator.push([sendEmail]);
  // @ts-expect-error one among commands
  await orchestrator.push([ping(), generateReport]);
}

export async function identifiers(orchestrator: Orchestrator) {
  const { id } = await orchestrator.push(generateReport({ month: "10" }));
  same<typeof id, CommandId<{ reportId: number }>>(true);
  const outcome = await orchestrator.waitFor(id);
  same<typeof outcome, CommandOutcome<{ reportId: number }>>(true);
  if (outcome.status === "succeeded") same<typeof outcome.output, { reportId: number }>(true);
  // @ts-expect-error an output is there only where it succeeded
  void outcome.output;

  const [first, second, third] = await orchestrator.push([
    generateReport({ month: "10" }),
    sendEmail({ to: "a" }, { delayMs: 1 }),
    ping(),
  ]);
  same<typeof first.id, CommandId<{ reportId: number }>>(true);
  same<typeof second.id, CommandId<undefined>>(true);
  same<typeof third.id, CommandId<undefined>>(true);
  // @ts-expect-error there are two
  const [, , missing] = await orchestrator.push([ping(), ping()]);
  same<typeof missing, undefined>(true);
  const many = await orchestrator.push(["a", "b"].map((to) => sendEmail({ to })));
  same<typeof many, Pushed<undefined>[]>(true);
  // @ts-expect-error an id belongs to one command, and is among its own options
  await orchestrator.push([ping(), ping()], { id: "0199" });

  const all = await orchestrator.waitFor([first.id, second.id]);
  same<(typeof all)[0], CommandOutcome<{ reportId: number }>>(true);
  same<(typeof all)[1], CommandOutcome<undefined>>(true);
  // @ts-expect-error there are two
  void all[2];
  // An id from elsewhere: typed by the contract, raw without one.
  const known = await orchestrator.waitFor(generateReport, "0199");
  same<typeof known, CommandOutcome<{ reportId: number }>>(true);
  const raw = await orchestrator.waitFor("0199");
  same<typeof raw, CommandOutcome>(true);
  if (raw.status === "succeeded") same<typeof raw.output, unknown>(true);

  same<OutputOf<typeof generateReport>, { reportId: number }>(true);
  same<OutputOf<ReturnType<typeof generateReport>>, { reportId: number }>(true);
  same<OutputOf<CommandId<string>>, string>(true);
}

export function outputs() {
  generateReport.handle(({ input }) => {
    same<typeof input, { month: number }>(true);
    return { reportId: "r" };
  });
  generateReport.handle(async () => ({ reportId: "r" }));
  generateReport.handle(async ({ attempt }) => (attempt > 1 ? snooze({ delayMs: 5 }) : { reportId: "r" }));
  // @ts-expect-error what the schema answers is not what it takes
  generateReport.handle(async () => ({ reportId: 1 }));
  // @ts-expect-error nothing
  generateReport.handle(async () => {});
  // @ts-expect-error a missing property
  generateReport.handle(() => ({}));
  // Without a schema for it, the output may be anything.
  sendEmail.handle(() => Symbol("cyclic, for all we know"));
  sendEmail.handle(async () => {});
}

export function followUps(db: Queryable) {
  generateReport.handle(async () => ({ reportId: "r" }), {
    onSuccess: ({ input, output }) => {
      same<typeof input, { month: number }>(true);
      same<typeof output, { reportId: number }>(true);
      return [sendEmail({ to: `${output.reportId}` }), ping(undefined, { priority: 1 })];
    },
    onFailure: async ({ input, error, status }) => {
      same<typeof input, { month: number } | undefined>(true);
      same<typeof status, "failed" | "timed_out" | "not_found">(true);
      return sendEmail({ to: error?.code ?? "nobody" });
    },
    onCancellation: () => {},
  });
  // @ts-expect-error a follow-up with a wrong input
  ping.handle(() => {}, { onSuccess: () => [sendEmail({ to: 1 })] });
  // @ts-expect-error a contract that nobody called
  ping.handle(() => {}, { onSuccess: () => [sendEmail] });
  // @ts-expect-error a contract that nobody called, alone
  ping.handle(() => {}, { onSuccess: () => ping });
  // @ts-expect-error a contract that nobody called, later
  ping.handle(() => {}, { onFailure: async () => [ping(), sendEmail] });
  // @ts-expect-error what is no command at all
  ping.handle(() => {}, { onCancellation: () => [{ name: "ping" }] });
  // @ts-expect-error a hook that does not exist
  ping.handle(() => {}, { onError: () => [] });
  generateReport.handle(async ({ finish }) => await finish(db, { reportId: "r" }));
  // @ts-expect-error: not this contract's output
  generateReport.handle(async ({ finish }) => await finish(db, { reportId: 1 }));
  // @ts-expect-error: it has an output
  generateReport.handle(async ({ finish }) => await finish(db));
  sendEmail.handle(async ({ finish }) => void (await finish(db)));
  sendEmail.handle(async ({ finish }) => void (await finish(db, undefined, { append: [] })));
  // @ts-expect-error: it has no output, in whose place these options would be dropped
  sendEmail.handle(async ({ finish }) => void (await finish(db, { append: [] })));
  ping.handle(({ push }) => {
    same<ReturnType<typeof push<{ reportId: number }>>["id"], CommandId<{ reportId: number }>>(true);
    push(generateReport({ month: "10" }));
    // @ts-expect-error a contract that nobody called
    push(generateReport);
  });
}

// A command that follows itself, and two that follow each other: with hooks in the definition this is TS7022.
const count = defineCommand({ name: "count", input: v.object({ n: v.number() }) });
const countHandler = count.handle(async () => {}, { onSuccess: ({ input }) => [count({ n: input.n + 1 })] });
const tick = defineCommand({ name: "tick", output: v.number() });
const tock = defineCommand({ name: "tock", input: v.number() });
const tickHandler = tick.handle(() => 1, { onSuccess: ({ output }) => tock(output) });
const tockHandler = tock.handle(() => {}, { onSuccess: () => tick(), onFailure: async () => [tock(1), tick()] });

export function lists(module: typeof import("../src/handler.ts")): OrchestratorOptions["handlers"][] {
  const options: OrchestratorOptions["handlers"][] = [
    [countHandler, tickHandler, tockHandler, generateReport.handle(() => ({ reportId: "r" }))],
    // A module's namespace fits too.
    module,
  ];
  // @ts-expect-error a contract has no handler
  const list: Handler[] = [sendEmail];
  return [...options, list];
}

const several = defineCommands({
  sendLetter: { input: v.object({ to: v.string() }), retries: 2 },
  ChargeCardCommand: {
    input: v.object({ cents: v.number() }),
    output: v.object({ receipt: v.string() }),
    version: 2,
    upgrade: (old: { euros: number }) => ({ cents: old.euros * 100 }),
  },
  clean: {},
});

export function definitions() {
  same<OutputOf<typeof several.ChargeCardCommand>, { receipt: string }>(true);
  several.sendLetter({ to: "a" });
  several.clean();
  // @ts-expect-error a wrong input
  several.sendLetter({ to: 1 });
  // @ts-expect-error a key that was not defined
  several.sendFax();
  // @ts-expect-error an upgrade to something that the schema refuses
  defineCommands({ a: { input: v.object({ n: v.number() }), upgrade: () => ({ n: "1" }) } });
  // @ts-expect-error a slip of the pen
  defineCommands({ a: { retry: 3 } });
  // @ts-expect-error no name
  defineCommand({ input: v.string() });
  // @ts-expect-error an upgrade to something that the schema refuses
  defineCommand({ name: "a", input: v.object({ n: v.number() }), upgrade: () => ({ n: "1" }) });
  // @ts-expect-error a slip of the pen
  defineCommand({ name: "a", retry: 3 });
  defineCommand({ name: "a", input: v.number(), version: 2, upgrade: (old: string) => Number(old) });
  same<typeof ping, Contract<undefined, undefined>>(true);
}

export async function once({ execute, handlerOf }: ExecuteOnce, push: (list: readonly Command[]) => void) {
  const executed = await execute(generateReport({ month: "10" }), { attempt: 2, signal: new AbortController().signal });
  same<typeof executed, Executed<{ reportId: number }>>(true);
  if (executed.outcome.status === "succeeded") same<typeof executed.outcome.output, { reportId: number }>(true);
  // @ts-expect-error an output is there only where it succeeded
  void executed.outcome.output;
  if (executed.outcome.status === "failed") same<typeof executed.outcome.thrown, unknown>(true);
  if (executed.outcome.status === "snoozed") same<typeof executed.outcome.delayMs, number | undefined>(true);
  same<typeof executed.followUps, readonly FollowUp[]>(true);
  push(executed.followUps);
  // @ts-expect-error a contract that nobody called
  await execute(generateReport);
  // @ts-expect-error a slip of the pen
  await execute(ping(), { attempts: 2 });
  // @ts-expect-error one command at a time
  await execute([ping()]);
  same<ReturnType<typeof handlerOf>, Handler | undefined>(true);
  handlerOf("ping", 2);
  // @ts-expect-error by its name
  handlerOf(ping);
}

export function layers() {
  const tenancy: Middleware = {
    name: "tenancy",
    async push({ commands }, next) {
      const pushed = await next(({ metadata, name }) => (name === "ping" ? undefined : { ...metadata, tenant: "t1" }));
      same<typeof pushed, readonly { readonly id: CommandId }[]>(true);
      // @ts-expect-error what is pushed is not for it to change
      commands[0].input = 1;
      // @ts-expect-error metadata that is not JSON
      await next(() => ({ at: new Date() }));
    },
    async execute({ metadata, attempt, signal }, next) {
      same<typeof metadata, Metadata>(true);
      same<[typeof attempt, typeof signal], [number, AbortSignal]>(true);
      const attempted = await next();
      same<typeof attempted, Attempted>(true);
      if (attempted.kind === "failed") same<typeof attempted.permanent, boolean>(true);
      if (attempted.kind === "succeeded") same<typeof attempted.output, unknown>(true);
      // @ts-expect-error the result stands
      attempted.kind = "succeeded";
      return attempted;
    },
  };
  same<OrchestratorOptions["middleware"], readonly Middleware[] | undefined>(true);
  ping.handle(() => {}, { middleware: [{ execute: (_, next) => next() }] });
  // @ts-expect-error a handler is not asked about pushes
  ping.handle(() => {}, { middleware: [{ push: (_, next) => next() }] });
  // @ts-expect-error a slip of the pen
  const bad: Middleware = { executes: () => {} };
  return [tenancy, bad];
}

test("Handler fits into one list whatever its contract is, also where commands follow each other", () => {
  const handlers = handlersOf([countHandler, tickHandler, tockHandler]);
  expect(handlers.map(({ contract }) => contract.name)).toEqual(["count", "tick", "tock"]);
});
