/** What a user may ask of commands: lists, timelines, trees, waiting for many, progress. */
import * as v from "valibot";
import { type CommandProgress, type CommandSummary, defineCommand, PermanentFailure, snooze } from "../src/index.ts";
import { type Case, limited, rejection, type Scene, same, scenario, signal, succeeded, truth } from "./conformance.ts";

const nobody = "0199a1b2-0000-7000-8000-000000000001";

/** All pages, each of `limit`. */
async function everything(
  list: ReturnType<Scene["orchestrator"]>["list"],
  filter: Parameters<typeof list>[0],
  limit: number,
): Promise<CommandSummary[]> {
  const found: CommandSummary[] = [];
  for (let cursor: string | undefined; ; ) {
    const page = await list(filter, { limit, cursor });
    truth(page.commands.length <= limit, "a page has no more than its limit");
    found.push(...page.commands);
    if (page.cursor === undefined) return found;
    cursor = page.cursor;
  }
}

export const askingCases: readonly Case[] = [
  scenario(
    "list() gives live commands in their order, then finished ones, the newest first, page by page",
    async (scene) => {
      const job = defineCommand(scene.define({ name: "job", input: v.number() }));
      const { push, waitFor, list } = await scene.working([job.handle(() => {})], { concurrency: 1 });
      const done: { id: string }[] = [];
      for (const number of [1, 2, 3, 4, 5]) {
        const pushed = await push(job(number));
        await waitFor(pushed.id, limited);
        done.push(pushed);
      }
      const later = await push([
        job(6, { delayMs: 7_200_000 }),
        job(7, { delayMs: 3_600_000 }),
        job(8, { priority: 1, delayMs: 3_600_000 }),
      ]);
      const expected = [later[2], later[1], later[0], ...done.toReversed()].map((one) => one?.id);
      const filter = { queue: scene.queue, from: new Date(Date.now() - 3_600_000) };
      for (const limit of [1, 3, 8, 1_000]) {
        same(
          (await everything(list, filter, limit)).map(({ id }) => id),
          expected,
          `the ids by pages of ${limit}`,
        );
      }
      const [first] = await everything(list, filter, 8);
      same([first?.status, first?.priority, first?.name], ["scheduled", 1, `job_${scene.queue}`], "the first");
      truth(first !== undefined && !("input" in first), "a summary has no input");
      same((await list({ ...filter, status: "succeeded" })).commands.length, 5, "those that succeeded");
      same(
        (await list({ queue: scene.queue, status: ["scheduled", "pending"] })).commands.length,
        3,
        "those that wait",
      );
      same(
        (await list({ ...filter, to: new Date(filter.from.getTime() + 1) })).commands.length,
        0,
        "those of long ago",
      );
    },
  ),

  scenario("list() finds by the text of an error, and leaves hook commands out unless asked for", async (scene) => {
    const job = defineCommand(scene.define({ name: "job", input: v.string(), retries: 0 }));
    const cleaned = signal();
    const { push, waitFor, list } = await scene.working([
      job.handle(
        ({ input }) => {
          throw new PermanentFailure(`No Room for ${input}`);
        },
        { onFailure: () => cleaned.give() },
      ),
    ]);
    const [a, b] = await push([job("Ada"), job("Bob")]);
    await waitFor([a.id, b.id], limited);
    await cleaned.got();
    const filter = { queue: scene.queue, from: new Date(Date.now() - 3_600_000) };
    const found = await list({ ...filter, errorText: "no room for ADA" });
    same(
      found.commands.map(({ id, status, error }) => [id, status, error?.message]),
      [[a.id, "failed", "No Room for Ada"]],
      "what was found",
    );
    same((await list({ ...filter, hooks: false })).commands.length, 2, "without hooks");
    const hooks = (await list({ parentId: a.id, hooks: true })).commands;
    same(
      hooks.map(({ hook, parentId }) => [hook, parentId]),
      [["failure", a.id]],
      "the hooks",
    );
    same((await list({ parentId: a.id })).commands, [], "what is no hook");
  }),

  scenario("list() by correlation id finds the whole chain, live and finished", async (scene) => {
    const second = defineCommand(scene.define({ name: "second" }));
    const first = defineCommand(scene.define({ name: "first" }));
    const { push, waitFor, list } = await scene.working([
      first.handle(() => {}, { onSuccess: () => [second(undefined, { delayMs: 3_600_000 })] }),
    ]);
    const { id } = await push(first(undefined));
    await waitFor(id, limited);
    const chain = (await list({ correlationId: id })).commands;
    same(
      chain.map(({ name, correlationId }) => [name, correlationId]),
      [
        [`second_${scene.queue}`, id],
        [`first_${scene.queue}`, id],
      ],
      "the chain",
    );
    const own = await push(first(undefined, { metadata: { note: "\u0001", correlationId: "x".repeat(4_000) } }));
    same((await waitFor(own.id, limited)).status, "succeeded", "what no index could take");
  }),

  scenario("list() refuses what it cannot do, before any I/O", async (scene) => {
    const { list } = scene.orchestrator([]);
    const refused = async (filter: object, options?: object) => {
      const error = await rejection(list(filter, options));
      return `${error.name}: ${error.message}`;
    };
    truth((await refused({ queue: "a" })).includes("from must be given with queue"), "a queue needs a time");
    truth(
      (await refused({ status: "cancelled" })).includes("from must be given with status"),
      "a rare status needs a time",
    );
    truth((await refused({ colour: 1 })).includes('got "colour"'), "an unknown key is refused");
    truth(
      (await refused({}, { limit: 1_001 })).startsWith("RangeError: Cannot list commands: limit must be"),
      "the limit",
    );
    for (const cursor of [
      "",
      "?",
      "e30",
      btoa('{"id":"x"}'),
      btoa(`{"finished_at":"2025-02-30 00:00:00+00","id":"${nobody}"}`),
    ]) {
      truth(
        (await refused({}, { cursor })).startsWith("RangeError: Cannot list commands: cursor must be"),
        `cursor ${cursor}`,
      );
    }
  }),

  scenario("timeline() tells what became of each lease, and what followed", async (scene) => {
    const after = defineCommand(scene.define({ name: "after" }));
    const job = defineCommand(scene.define({ name: "job" }));
    let runs = 0;
    const { push, waitFor, timeline } = await scene.working([
      after.handle(() => {}),
      job.handle(
        () => {
          runs += 1;
          if (runs === 1) throw new Error("not yet");
          return runs === 2 ? snooze({ delayMs: 1 }) : undefined;
        },
        { onSuccess: () => [after(undefined)] },
      ),
    ]);
    const { id } = await push(job(undefined));
    await waitFor(id, limited);
    const told = await timeline(id.toUpperCase());
    same(
      told?.entries.map((entry) => [
        entry.kind,
        entry.kind === "leased" ? [entry.end, entry.error?.message] : undefined,
      ]),
      [
        ["pushed", undefined],
        ["leased", ["failed", "not yet"]],
        ["leased", ["snoozed", undefined]],
        ["leased", ["succeeded", undefined]],
        ["finished", undefined],
      ],
      "the entries",
    );
    const times = told?.entries.map(({ at }) => at.getTime()) ?? [];
    same(
      times,
      times.toSorted((a, b) => a - b),
      "the order of the times",
    );
    same(
      told?.children.map(({ name, hook }) => [name, hook]),
      [[`after_${scene.queue}`, undefined]],
      "the children",
    );
    same(told?.truncated, false, "whether it is cut");
    same(await timeline(nobody), undefined, "of an unknown command");

    const waiting = await push(job(undefined, { delayMs: 3_600_000 }));
    same(
      (await timeline(waiting.id))?.entries.map(({ kind }) => kind),
      ["pushed"],
      "what only waits",
    );
  }),

  scenario(
    "timeline() keeps a lease that a stop handed back, with its worker, its times and its end",
    async (scene) => {
      const job = defineCommand(scene.define({ name: "job" }));
      const begun = signal();
      let runs = 0;
      const handler = job.handle(({ signal: aborted }) => {
        if (++runs > 1) return;
        begun.give();
        return new Promise((_, reject) => aborted.addEventListener("abort", () => reject(aborted.reason)));
      });
      const first = await scene.working([handler]);
      const { id } = await first.push(job());
      await begun.got();
      const { id: stopped } = first.workers[0] ?? {};
      await first.workers[0]?.stop({ graceMs: 0 });
      const waiting = await first.get(id);
      same([waiting?.attempt, waiting?.trail.map(({ code }) => code)], [0, ["released"]], "what was handed back");
      same(
        (await first.list({ queue: scene.queue, status: "pending" })).commands[0]?.error,
        undefined,
        "is no failure",
      );
      const second = await scene.working([handler]);
      same((await second.waitFor(id, limited)).status, "succeeded", "the end");
      const told = await second.timeline(id);
      same(
        told?.entries.map((entry) => (entry.kind === "leased" ? [entry.end, entry.worker, entry.error] : entry.kind)),
        ["pushed", ["released", stopped, undefined], ["succeeded", second.workers[0]?.id, undefined], "finished"],
        "the entries",
      );
      const [, released] = told?.entries ?? [];
      truth(released?.kind === "leased" && released.to && released.to >= released.at, "it has its times");
    },
  ),

  scenario(
    "tree() gives the whole chain from any of its commands, with hooks and what has not run yet",
    async (scene) => {
      const leaf = defineCommand(scene.define({ name: "leaf" }));
      const middle = defineCommand(scene.define({ name: "middle", retries: 0 }));
      const top = defineCommand(scene.define({ name: "top" }));
      const cleaned = signal();
      const { push, waitFor, tree } = await scene.working([
        middle.handle(
          () => {
            throw new PermanentFailure("no");
          },
          {
            onFailure: () => {
              cleaned.give();
              return [leaf(undefined, { delayMs: 3_600_000 })];
            },
          },
        ),
        top.handle(() => {}, { onSuccess: () => [middle(undefined), leaf(undefined, { delayMs: 3_600_000 })] }),
      ]);
      const { id } = await push(top(undefined));
      await waitFor(id, limited);
      await cleaned.got();
      const hook = (await tree(id))?.root.children.find(({ name }) => name.startsWith("middle"))?.children[0];
      same(hook?.hook, "failure", "the hook is marked");
      await waitFor(hook?.id as string, limited);
      const whole = await tree(hook?.id as string);
      same([whole?.root.id, whole?.count, whole?.truncated], [id, 5, false], "the whole");
      const shape = (node: NonNullable<typeof whole>["root"]): unknown => [
        node.name.split("_")[0],
        node.hook ?? "",
        node.children.map(shape),
      ];
      same(
        shape(whole?.root as NonNullable<typeof whole>["root"]),
        [
          "top",
          "",
          [
            ["middle", "", [["middle", "failure", [["leaf", "", []]]]]],
            ["leaf", "", []],
          ],
        ],
        "the shape",
      );
      same(await tree(nobody), undefined, "of an unknown command");
    },
  ),

  scenario("timeline() and tree() cut what has more than a thousand, wide or deep, and say so", async (scene) => {
    const { driver } = scene.ground;
    const { timeline, tree } = scene.orchestrator([]);
    /** The ids of a scene of its own: `of(0)`, `of(1)`, and so on. */
    const ids = () => {
      const prefix = crypto.randomUUID().slice(0, 24);
      return { prefix, of: (n: number) => prefix + n.toString(16).padStart(12, "0") };
    };
    const wide = ids();
    await driver.query(
      `insert into orchestratum.command (
         id, name, version, queue, priority, due_at, available_at, max_attempts, timeout_ms, parent_id, created_at
       )
       select
         ($1::text || lpad(to_hex(n), 12, '0'))::uuid, 'wide', 1, $2::text, 5, now(), now() + interval '1 hour', 4, 60000,
         case when n > 0 then $3::text::uuid end, now() + n * interval '1 microsecond'
       from generate_series(0, 1001) n`,
      [wide.prefix, scene.queue, wide.of(0)],
    );
    const looked = async () => {
      const told = await timeline(wide.of(0));
      const whole = await tree(wide.of(1));
      return [
        [told?.children.length, told?.truncated, told?.children[0]?.id === wide.of(1)],
        [whole?.root.id === wide.of(0), whole?.count, whole?.root.children.length, whole?.truncated],
      ];
    };
    same(
      await looked(),
      [
        [1_000, true, true],
        [true, 1_000, 999, true],
      ],
      "of 1,001 children",
    );
    await driver.query("delete from orchestratum.command where id = $1::text::uuid", [wide.of(1_001)]);
    same(
      await looked(),
      [
        [1_000, false, true],
        [true, 1_000, 999, true],
      ],
      "of 1,000",
    );
    await driver.query("delete from orchestratum.command where id = $1::text::uuid", [wide.of(1_000)]);
    same(
      await looked(),
      [
        [999, false, true],
        [true, 1_000, 999, false],
      ],
      "of 999",
    );

    const deep = ids();
    await driver.query(
      `insert into orchestratum.history (
         slot, id, name, version, queue, priority, status, due_at, fence, attempt, max_attempts, losses, timeout_ms, worker,
         finished_at, parent_id, created_at
       )
       select
         orchestratum.history_slot(now(), true), ($1::text || lpad(to_hex(n), 12, '0'))::uuid, 'deep', 1, $2::text, 5, 'succeeded',
         now(), 1, 1, 4, 0, 60000, 'worker', now(),
         case when n > 0 then ($1::text || lpad(to_hex(n - 1), 12, '0'))::uuid end, now() + n * interval '1 microsecond'
       from generate_series(0, 1000) n`,
      [deep.prefix, scene.queue],
    );
    for (const from of [0, 500, 1_000]) {
      const whole = await tree(deep.of(from));
      same([whole?.root.id, whole?.count, whole?.truncated], [deep.of(0), 1_000, true], `of a chain, from ${from}`);
      let depth = 1;
      for (let node = whole?.root; node?.children[0]; node = node.children[0]) depth++;
      same(depth, 1_000, "how deep it is");
    }
    await driver.query("delete from orchestratum.history where id = $1::text::uuid", [deep.of(1_000)]);
    const whole = await tree(deep.of(999));
    same([whole?.root.id, whole?.count, whole?.truncated], [deep.of(0), 1_000, false], "of a chain of 1,000");
  }),

  scenario(
    "waitFor() many answers in their order, each typed, and ends with the first that cannot be waited for",
    async (scene) => {
      const add = defineCommand(scene.define({ name: "add", input: v.number(), output: v.number() }));
      const shout = defineCommand(scene.define({ name: "shout", input: v.string(), output: v.string() }));
      const { push, waitFor } = await scene.working([
        add.handle(({ input }) => input + 1),
        shout.handle(({ input }) => input.toUpperCase()),
      ]);
      const [a, b] = await push([add(1), shout("a")]);
      const [sum, loud] = await waitFor([a.id, b.id], limited);
      const total: number = succeeded(sum);
      const text: string = succeeded(loud);
      same([total, text], [2, "A"], "the outputs");
      same(await waitFor([], limited), [], "of none");
      const late = await push(add(1, { delayMs: 3_600_000 }));
      same(
        (await rejection(waitFor([late.id, nobody], limited))).code,
        "ORCHESTRATUM_UNKNOWN_COMMAND",
        "of an unknown one",
      );
      same((await rejection(waitFor([late.id], { timeoutMs: 1 }))).code, "ORCHESTRATUM_WAIT_TIMEOUT", "of a late one");
      const controller = new AbortController();
      const waiting = rejection(waitFor([late.id], { signal: controller.signal }));
      controller.abort(new Error("enough"));
      same((await waiting).message, "enough", "of an aborted one");
    },
  ),

  scenario("progress() yields the present state, each change that a read sees, and the end", async (scene) => {
    const job = defineCommand(scene.define({ name: "job" }));
    const go = signal();
    const orchestrator = await scene.working([
      job.handle(async ({ progress }) => {
        progress({ done: 1 });
        await go.got();
      }),
    ]);
    const { push, progress } = orchestrator;
    const { id } = await push(job(undefined));
    const states: CommandProgress[] = [];
    const others: CommandProgress[] = [];
    const both = (async () => {
      for await (const state of progress(id)) others.push(state);
    })();
    for await (const state of progress(id)) {
      states.push(state);
      if (state.progress !== undefined) go.give();
    }
    await both;
    const last = states.at(-1);
    same([last?.status, last?.progress], ["succeeded", { done: 1 }], "the last state");
    truth(
      states.some(({ status }) => status === "running"),
      "it was seen running",
    );
    same(others.at(-1), last, "the last state of another who watches");
    same(
      new Set(states.map(({ status, progress: one }) => JSON.stringify([status, one]))).size,
      states.length,
      "no state comes twice",
    );
    const again: CommandProgress[] = [];
    for await (const state of progress(id)) again.push(state);
    same(
      again.map(({ status }) => status),
      ["succeeded"],
      "of what has finished",
    );
  }),

  scenario("progress() ends by break, abort and stop(), and refuses an unknown id", async (scene) => {
    const job = defineCommand(scene.define({ name: "job" }));
    const { push, progress, stop } = scene.orchestrator([], [job]);
    const { id } = await push(job(undefined, { delayMs: 3_600_000 }));
    for await (const state of progress(id)) {
      same(state.status, "scheduled", "the present state");
      break;
    }
    same((await rejection(progress(nobody).next())).code, "ORCHESTRATUM_UNKNOWN_COMMAND", "of an unknown command");
    const controller = new AbortController();
    const aborted = progress(id, { signal: controller.signal });
    await aborted.next();
    const change = rejection(aborted.next());
    controller.abort(new Error("enough"));
    same((await change).message, "enough", "after an abort");
    same(await aborted.next(), { done: true }, "after the end");
    const stopped = progress(id);
    await stopped.next();
    const end = rejection(stopped.next());
    await stop();
    same((await end).code, "ORCHESTRATUM_STOPPED", "after stop()");
    same((await rejection(progress(id).next())).code, "ORCHESTRATUM_STOPPED", "of a stopped one");
  }),
];
