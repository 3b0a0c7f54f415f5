/** Middleware, running a handler once without the queue, and versions side by side. */
import * as v from "valibot";
import {
  type Attempted,
  createOrchestrator,
  defineCommand,
  type Handler,
  type Middleware,
  PermanentFailure,
  snooze,
} from "../src/index.ts";
import {
  type Case,
  eventually,
  limited,
  minute,
  rejection,
  type Scene,
  same,
  scenario,
  signal,
  succeeded,
  truth,
} from "./conformance.ts";

/** An orchestrator with middleware, which the scene's own has not. */
function within(scene: Scene, handlers: readonly Handler[], middleware: readonly Middleware[]) {
  const orchestrator = createOrchestrator({ database: scene.ground.driver, handlers, middleware });
  return Object.assign(orchestrator, { [Symbol.asyncDispose]: () => orchestrator.stop({ graceMs: 0 }) });
}

export const executionCases: readonly Case[] = [
  scenario("push middleware adds metadata, which follow-ups and hooks inherit", async (scene) => {
    const seen: unknown[] = [];
    const hooked = signal<unknown>();
    const last = defineCommand(scene.define({ name: "last" }));
    const bad = defineCommand(scene.define({ name: "bad", retries: 0 }));
    const first = defineCommand(scene.define({ name: "first", output: v.string() }));
    const metadataOf = ({ metadata }: { metadata: Record<string, unknown> }) => [metadata.tenant, metadata.own];
    const pushed: unknown[] = [];
    await using orchestrator = within(
      scene,
      [
        first.handle((context) => {
          seen.push(metadataOf(context));
          return context.push(bad()).id;
        }),
        bad.handle(
          (context) => {
            seen.push(metadataOf(context));
            throw new Error("no");
          },
          { onFailure: () => last() },
        ),
        last.handle((context) => hooked.give(metadataOf(context))),
      ],
      [
        {
          async push({ commands }, next) {
            const ids = await next(({ metadata }) => ({ ...metadata, tenant: { id: "t1" } }));
            pushed.push(
              commands.map(({ name, version, input, queue }) => [name, version, input, queue]),
              ids,
            );
          },
        },
      ],
    );
    await scene.work(orchestrator);
    const { id } = await orchestrator.push(first({ n: 1 }, { metadata: { own: 1 } }), {
      metadata: { own: 0, gone: 1 },
    });
    same(pushed, [[[first.name, 1, { n: 1 }, scene.queue]], [{ id }]], "what the middleware saw");
    same(await hooked.got(), [{ id: "t1" }, 1], "the metadata of what followed the hook");
    same(
      seen,
      [
        [{ id: "t1" }, 1],
        [{ id: "t1" }, 1],
      ],
      "the metadata of the others",
    );
  }),

  scenario("push middleware takes metadata out, refuses before any I/O, and cannot be passed over", async (scene) => {
    const take = defineCommand(scene.define({ name: "take" }));
    let mode: "refuse" | "forget" | "twice" | "clear" = "clear";
    const orchestrator = within(
      scene,
      [take.handle(() => {})],
      [
        {
          name: "guard",
          async push(_, next) {
            if (mode === "refuse") throw new RangeError("not this one");
            if (mode === "forget") return;
            await next(() => ({ kept: true }));
            if (mode === "twice") await next();
          },
        },
      ],
    );
    const { id } = await orchestrator.push(take(), { metadata: { taken: true } });
    const { correlationId: _, ...metadata } = (await orchestrator.get(id))?.metadata ?? {};
    same(metadata, { kept: true }, "the metadata");
    mode = "refuse";
    same((await rejection(orchestrator.push([take(), take()]))).message, "not this one", "the refusal");
    mode = "forget";
    same(
      (await rejection(orchestrator.push(take()))).message,
      'Cannot push: middleware "guard" neither called next nor threw',
      "the slip",
    );
    same(
      (await orchestrator.counts()).filter(({ queue }) => queue === scene.queue).map(({ count }) => count),
      [1],
      "what was pushed",
    );
    mode = "twice";
    truth((await rejection(orchestrator.push(take()))).message.includes("called next twice"), "next runs once");
    await orchestrator.stop();
  }),

  scenario("execute middleware runs in order around attempts and hooks, and sees what they came to", async (scene) => {
    const log: unknown[] = [];
    const around = (name: string): Middleware => ({
      name,
      async execute({ hook, attempt, rawInput }, next) {
        log.push([name, hook ?? "handler", attempt, hook ? (rawInput as { status: string }).status : rawInput]);
        const result: Attempted = await next();
        log.push([name, result.kind]);
      },
    });
    const over = signal();
    const done = defineCommand(scene.define({ name: "done" }));
    const flaky = defineCommand(scene.define({ name: "flaky", retries: 1 }));
    await using orchestrator = within(
      scene,
      [
        flaky.handle(
          ({ attempt }) => {
            throw new Error(`no ${attempt}`);
          },
          { middleware: [around("inner")], onFailure: () => done() },
        ),
        done.handle(() => over.give()),
      ],
      [around("outer")],
    );
    await scene.work(orchestrator, { concurrency: 1 });
    await orchestrator.push(flaky("in"));
    await over.got();
    same(
      log.slice(0, 12),
      [
        ["outer", "handler", 1, "in"],
        ["inner", "handler", 1, "in"],
        ["inner", "failed"],
        ["outer", "failed"],
        ["outer", "handler", 2, "in"],
        ["inner", "handler", 2, "in"],
        ["inner", "failed"],
        ["outer", "failed"],
        ["outer", "failure", 1, "failed"],
        ["inner", "failure", 1, "failed"],
        ["inner", "succeeded"],
        ["outer", "succeeded"],
      ],
      "what they saw",
    );
  }),

  scenario(
    "execute middleware sees the output of a success as it is recorded, each layer its own copy",
    async (scene) => {
      const seen: unknown[] = [];
      const looksOn: Middleware = {
        async execute({ hook }, next) {
          const attempted = await next();
          if (attempted.kind !== "succeeded") return;
          const { output } = attempted;
          seen.push([hook ?? "handler", structuredClone(output)]);
          if (output !== undefined) Object.assign(output as object, { pages: 0 });
        },
      };
      const pages = v.pipe(v.number(), v.minValue(1), v.transform(String));
      const report = defineCommand(
        scene.define({ name: "report", input: v.number(), output: v.object({ pages }), retries: 0 }),
      );
      const silent = defineCommand(scene.define({ name: "silent" }));
      const hooked = signal();
      await using orchestrator = within(
        scene,
        [
          report.handle(({ input }) => ({ pages: input }), { middleware: [looksOn], onFailure: () => silent() }),
          silent.handle(() => {
            hooked.give();
            return "dropped";
          }),
        ],
        [looksOn],
      );
      await scene.work(orchestrator, { concurrency: 1 });
      const { id } = await orchestrator.push(report(3));
      same(succeeded(await orchestrator.waitFor(id, limited)), { pages: "3" }, "the output");
      same(
        seen.splice(0),
        [
          ["handler", { pages: 3 }],
          ["handler", { pages: 3 }],
        ],
        "what both layers saw",
      );
      // Of what the schema refuses, and of what records none, there is nothing to see.
      await orchestrator.push(report(0));
      await hooked.got();
      await eventually("three layers have seen what came after it", () => seen.length === 3);
      same(
        seen,
        [
          ["failure", undefined],
          ["failure", undefined],
          ["handler", undefined],
        ],
        "what came after a failure",
      );
    },
  ),

  scenario("execute middleware refuses an attempt, and for good with PermanentFailure", async (scene) => {
    let runs = 0;
    const guarded = defineCommand(scene.define({ name: "guarded", retries: 3 }));
    await using orchestrator = within(
      scene,
      [guarded.handle(() => void runs++)],
      [
        {
          async execute({ rawInput, attempt }, next) {
            if (rawInput === "never") throw new PermanentFailure("not for you");
            if (attempt === 1) throw new Error("not yet");
            await next();
            if (attempt === 2) throw new Error("not good enough");
          },
        },
      ],
    );
    await scene.work(orchestrator);
    const [never, later] = await orchestrator.push([guarded("never"), guarded("later")]);
    const refused = await orchestrator.waitFor(never.id, limited);
    same([refused.status, "error" in refused && refused.error?.attempt], ["failed", 1], "the one refused for good");
    same((await orchestrator.waitFor(later.id, limited)).status, "succeeded", "the one refused for a time");
    same(runs, 2, "how often it ran");
  }),

  scenario("execute() runs a handler once without any statement, and answers what would follow", async (scene) => {
    const mail = defineCommand(scene.define({ name: "mail", input: v.object({ to: v.string() }) }));
    const report = defineCommand(
      scene.define({ name: "report", input: v.object({ month: v.number() }), output: v.object({ pages: v.number() }) }),
    );
    const statements: string[] = [];
    const orchestrator = createOrchestrator({
      database: {
        ...scene.ground.driver,
        query: (text) => {
          statements.push(text);
          throw new Error("no statement is wanted");
        },
      },
      handlers: [
        report.handle(
          ({ input, push, metadata }) => {
            if (input.month > 12) throw new RangeError("no such month");
            if (input.month === 0) return snooze({ delayMs: 5 });
            push(mail({ to: JSON.stringify(metadata.tenant) }));
            return { pages: input.month * 2 };
          },
          {
            onSuccess: ({ output }) => mail({ to: `${output.pages}` }, { delayMs: 10 }),
            onFailure: ({ error }) => mail({ to: error?.message ?? "" }),
          },
        ),
      ],
    });
    const { outcome, followUps } = await orchestrator.execute(report({ month: 2 }, { metadata: { tenant: "t" } }));
    same(outcome, { status: "succeeded", output: { pages: 4 } }, "the outcome");
    same(
      followUps.map(({ name, input, options }) => [name, input, options.delayMs, options.metadata?.tenant]),
      [
        [mail.name, { to: '"t"' }, undefined, "t"],
        [mail.name, { to: "4" }, 10, "t"],
      ],
      "what would follow",
    );
    const failed = await orchestrator.execute(report({ month: 13 }));
    truth(failed.outcome.status === "failed" && failed.outcome.thrown instanceof RangeError, "what it threw");
    same(
      failed.followUps.map(({ input }) => input),
      [{ to: "no such month" }],
      "what would follow the failure",
    );
    same(failed.hook, { kind: "failure", outcome: { status: "succeeded" } }, "the hook");
    same((await orchestrator.execute(report({ month: 0 }))).outcome, { status: "snoozed", delayMs: 5 }, "a snooze");
    same(
      (await rejection(orchestrator.execute(report({ month: "x" as never })))).code,
      "ORCHESTRATUM_INVALID_INPUT",
      "a wrong input",
    );
    truth((await rejection(orchestrator.execute(mail({ to: "a" })))) instanceof TypeError, "a handler is needed");
    truth(orchestrator.handlerOf(report.name)?.contract === report, "handlerOf() knows it");
    same(orchestrator.handlerOf(report.name, 2), undefined, "a version that nobody knows");
    same(statements, [], "the statements");
    await orchestrator.stop();
  }),

  scenario("execute() ends at the timeout, and as cancelled by its signal", async (scene) => {
    const slow = defineCommand(scene.define({ name: "slow" }));
    let started = signal();
    const { execute } = scene.orchestrator([
      slow.handle(({ signal: aborted, input }) => {
        return new Promise<void>((_, reject) => {
          started.give();
          if (input === "heed") aborted.addEventListener("abort", () => reject(aborted.reason), { once: true });
        });
      }),
    ]);
    same((await execute(slow("ignore", { timeoutMs: 5 }))).outcome.status, "timed_out", "one that ignores it");
    same((await execute(slow("heed", { timeoutMs: 5 }))).outcome.status, "timed_out", "one that heeds it");
    const controller = new AbortController();
    started = signal();
    const running = execute(slow("heed"), { signal: controller.signal });
    await started.got();
    controller.abort();
    same((await running).outcome.status, "cancelled", "one that was cancelled");
  }),

  scenario("what execute() says would follow can be pushed", async (scene) => {
    const next = defineCommand(scene.define({ name: "next", output: v.unknown() }));
    const first = defineCommand(scene.define({ name: "first", output: v.string() }));
    const orchestrator = await scene.working([
      first.handle(({ push }) => push(next("in")).id),
      next.handle(({ id, input, metadata }) => [id, input, metadata.causationId]),
    ]);
    const { outcome, followUps } = await orchestrator.execute(first(null, { id: crypto.randomUUID() }));
    const [pushed] = await orchestrator.push(followUps);
    const [id, input, cause] = succeeded(await orchestrator.waitFor(next, pushed?.id ?? "", limited)) as string[];
    same([id, input], [outcome.status === "succeeded" && outcome.output, "in"], "the id that was promised");
    same(cause, followUps[0]?.options.metadata?.causationId, "its cause");
  }),

  ...[true, false].map((upgrades) =>
    scenario(
      `old and new workers side by side lose no command of either version, ${upgrades ? "with" : "without"} upgrade`,
      async (scene) => {
        const definition = scene.define({ name: "letter", output: v.string() });
        const old = defineCommand({ ...definition, input: v.object({ to: v.string() }) });
        const to = v.object({ to: v.array(v.string()) });
        const upgrade = (given: { to: string }) => ({ to: [given.to] });
        const renewed = defineCommand({ ...definition, version: 2, input: to, ...(upgrades ? { upgrade } : {}) });
        const options = { concurrency: 2, notFoundAfterMs: 1_000 };
        const busy = signal();
        const before = await scene.working(
          [
            old.handle(async ({ input }) => {
              await busy.got(2 * minute);
              return `old ${input.to}`;
            }),
          ],
          options,
        );
        const names = Array.from({ length: 30 }, (_, index) => `${index}`);
        const olds = await before.push(names.map((name) => old({ to: name })));
        const after = await scene.working([renewed.handle(({ input }) => `new ${input.to.join()}`)], options);
        const news = await after.push(names.map((name) => renewed({ to: [name] })));
        // What nobody has room for who knows it is put off for longer than it takes to be not found.
        const sightings = () => {
          const seen = new Map<string, number>();
          for (const { id } of scene.seen("command_unknown")) seen.set(id, (seen.get(id) ?? 0) + 1);
          return Math.max(0, ...seen.values());
        };
        const isPutOff = () => upgrades || sightings() >= 6;
        await eventually("commands are put off by who does not know them", isPutOff, minute);
        busy.give();
        const by = { old: 0, new: 0 };
        for (const [index, { id }] of olds.entries()) {
          const output = succeeded(await before.waitFor(old, id, { timeoutMs: 60_000 }));
          const worker = output.slice(0, 3) as "old" | "new";
          by[worker]++;
          same(output, `${worker} ${index}`, "an old command's output");
        }
        if (!upgrades) same(by, { old: 30, new: 0 }, "who ran the old ones");
        for (const [index, { id }] of news.entries()) {
          same(
            succeeded(await after.waitFor(renewed, id, { timeoutMs: 60_000 })),
            `new ${index}`,
            "a new one's output",
          );
        }
        // The old ones are done with: what is pushed by an old producer now meets new workers alone.
        if (!upgrades) return;
        await before.stop();
        const late = scene.orchestrator([], [old]);
        const { id } = await late.push(old({ to: "late" }));
        same(succeeded(await late.waitFor(id, limited)), "new late", "an old command that came late");
      },
    ),
  ),
];
