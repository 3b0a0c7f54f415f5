/** What statistics tell a user, of commands that were really pushed and run. */
import * as v from "valibot";
import { type Clock, cancel, createOrchestrator, defineCommand, type Figures, systemClock } from "../src/index.ts";
import { type Case, fold, limited, minute, rejection, same, scenario, signal, truth } from "./conformance.ts";

const figuresOf = <Item extends object>(list: readonly Item[], key: keyof Item, value: unknown): Item => {
  const found = list.find((item) => item[key] === value);
  truth(found, `there are figures of ${String(value)}`);
  return found;
};

export const statisticsCases: readonly Case[] = [
  scenario("stats() tells by queue, name and worker what there is and what came of the last day", async (scene) => {
    const job = defineCommand(scene.define({ name: "job", input: v.string(), retries: 0 }));
    const other = defineCommand(scene.define({ name: "other" }));
    const [begun, release] = [signal(), signal()];
    const orchestrator = scene.orchestrator([
      job.handle(async ({ input }) => {
        if (input === "hold") {
          begun.give();
          await release.got();
        }
        if (input === "fail") throw new Error("no");
        if (input === "give up") return cancel("not wanted");
      }),
      other.handle(() => {}),
    ]);
    const worker = await scene.work(orchestrator);
    const { push, waitFor, stats } = orchestrator;
    const pushed = await push([job("a"), job("b"), job("fail"), job("give up"), other()]);
    for (const { id } of pushed) await waitFor(id, limited);
    const held = await push(job("hold"));
    await begun.got();
    const later = await push([job("later", { delayMs: minute }), job("never", { delayMs: minute })]);
    same(await orchestrator.cancel(later[1].id), "cancelled", "what became of the one that waited");
    const due = new Date("2020-02-02T02:02:02.002Z");
    const elsewhere = `${scene.queue}e`;
    await push([job("x", { queue: elsewhere, runAt: due }), job("y", { queue: elsewhere })]);
    await fold(scene);

    const told = await stats();
    truth(told.until && told.until <= told.at, "finished commands are counted up to some time that is over");
    truth(told.at.getTime() - told.since.getTime() <= 24 * 60 * minute, "a day is looked back at most");
    truth(told.at.getTime() - told.since.getTime() >= (24 * 60 - 5) * minute, "five minutes less at least");

    const queue = figuresOf(told.queues, "queue", scene.queue);
    const { waiting, execution, ...counts } = queue;
    const none = { scheduled: 0, pending: 0, running: 0, finished: 0, failed: 0, cancelled: 0 };
    same(
      counts,
      { queue: scene.queue, ...none, scheduled: 1, running: 1, finished: 3, failed: 1, cancelled: 2 },
      "the queue",
    );
    const areTimes = (told: Pick<Figures, "waiting" | "execution">) => {
      for (const what of ["waiting", "execution"] as const) {
        const durations = told[what];
        truth(durations, `${what} is told`);
        same(durations.count, 4, `of how many ${what} is told`);
        truth(durations.meanMs >= 0 && durations.meanMs < minute, `the mean of ${what} is a time, ${durations.meanMs}`);
        truth(durations.p50Ms > 0 && durations.p50Ms < minute, `the median of ${what} is a time, ${durations.p50Ms}`);
        truth(durations.p50Ms <= durations.p95Ms && durations.p95Ms <= durations.p99Ms, `percentiles of ${what} rise`);
      }
    };
    areTimes({ waiting, execution });
    const remote = figuresOf(told.queues, "queue", elsewhere);
    same(
      remote,
      { queue: elsewhere, ...none, pending: 2, waiting: undefined, execution: undefined, oldestDueAt: due },
      "the queue that nobody serves",
    );
    const named = figuresOf(told.names, "name", job.name);
    const pick = ({ scheduled, pending, running, finished, failed, cancelled }: typeof named) => [
      ...[scheduled, pending, running, finished, failed, cancelled],
    ];
    same(pick(named), [1, 2, 1, 2, 1, 2], "the name, in both queues");
    same(pick(figuresOf(told.names, "name", other.name)), [0, 0, 0, 1, 0, 0], "the other name");
    const { waiting: waited, execution: executed, ...worked } = figuresOf(told.workers, "worker", worker.id);
    // What was cancelled while it waited no worker has ended.
    same(worked, { worker: worker.id, running: 1, finished: 3, failed: 1, cancelled: 1 }, "the worker");
    areTimes({ waiting: waited, execution: executed });

    release.give();
    await waitFor(held.id, limited);
    await orchestrator.cancel([later[0].id]);
  }),

  scenario("stats() leaves hook commands out unless they are asked for", async (scene) => {
    const hooked = signal();
    const risky = defineCommand(scene.define({ name: "risky", retries: 0 }));
    const { push, waitFor, stats } = await scene.working([
      risky.handle(
        () => {
          throw new Error("no");
        },
        { onFailure: () => hooked.give() },
      ),
    ]);
    const { id } = await push(risky());
    await waitFor(id, limited);
    await hooked.got();
    const query = "select a.id::text as id from orchestratum.all_commands a where a.parent_id = $1::text::uuid";
    const [hook] = await scene.ground.driver.query<{ id: string }>(query, [id]);
    await waitFor((hook as { id: string }).id, limited);
    await fold(scene);
    const counts = async (hooks?: boolean) => {
      const told = await stats(hooks === undefined ? {} : { hooks });
      const { finished, failed } = figuresOf(told.names, "name", risky.name);
      const [worker] = told.workers.filter((one) => one.failed === 1 && one.finished === (hooks ? 1 : 0));
      return [finished, failed, worker !== undefined];
    };
    same(await counts(), [0, 1, true], "without hooks");
    same(await counts(false), [0, 1, true], "without hooks, said so");
    same(await counts(true), [1, 1, true], "with hooks");
  }),

  scenario("stats() reads once a second, however many ask", async (scene) => {
    const job = defineCommand(scene.define({ name: "job" }));
    let aheadMs = 0;
    const clock: Clock = { ...systemClock, now: () => systemClock.now() + aheadMs };
    const orchestrator = createOrchestrator({ database: scene.ground.driver, commands: [job], clock });
    try {
      const [first, second, hooks] = await Promise.all([
        orchestrator.stats(),
        orchestrator.stats({ hooks: false }),
        orchestrator.stats({ hooks: true }),
      ]);
      truth(first === second, "two that ask at once share what is read");
      truth(first !== hooks, "with hooks it is another read");
      await orchestrator.push(job());
      // Real time goes on, too, but not for 100 s.
      aheadMs -= 100_000;
      truth((await orchestrator.stats()) === first, "it is shared for a second");
      aheadMs += 101_000;
      const later = await orchestrator.stats();
      same(figuresOf(later.queues, "queue", scene.queue).pending, 1, "what is read a second later");
    } finally {
      await orchestrator.stop();
    }
  }),

  scenario("stats() refuses options that are not what they should be", async (scene) => {
    const orchestrator = scene.orchestrator([]);
    const error = await rejection(orchestrator.stats({ hooks: "yes" as unknown as boolean }));
    truth(error instanceof TypeError, "it is a TypeError");
    same(error.message, 'Cannot read statistics: hooks must be true or false, got "yes"', "its message");
  }),
];
