/** Ticks, as those notice them who call them from a timer: on every driver and database alike. See conformance.ts for the form. */
import * as v from "valibot";
import {
  type Clock,
  createOrchestrator,
  defineCommand,
  type Handler,
  type Orchestrator,
  systemClock,
  type TickOptions,
  type TickResult,
  type Timer,
} from "../src/index.ts";
import { type Case, minute, rejection, type Scene, same, scenario, signal, truth } from "./conformance.ts";
import { connectionReset, type Fault, type FaultyDriver, faulty } from "./faulty-driver.ts";

/** An orchestrator whose statements and timers are watched, and whose time goes on when a case says so. */
function watched(scene: Scene, handlers: readonly Handler[], ...faults: readonly Fault[]) {
  const driver: FaultyDriver = faulty(scene.ground.driver, ...faults);
  let listens = 0;
  let aheadMs = 0;
  const timers = new Set<Timer & { readonly ms: number; ring(): void }>();
  const clock: Clock = {
    ...systemClock,
    now: () => systemClock.now() + aheadMs,
    after(ms, callback) {
      const timer = systemClock.after(ms, () => entry.ring());
      const entry = {
        ms,
        cancel: () => void (timers.delete(entry), timer.cancel()),
        ring() {
          entry.cancel();
          callback();
        },
      };
      timers.add(entry);
      return entry;
    },
  };
  const listen: FaultyDriver["listen"] = async (...args) => {
    listens++;
    return (await scene.ground.driver.listen?.(...args)) as never;
  };
  const orchestrator = createOrchestrator({
    database: { ...driver, listen },
    handlers,
    clock,
    observe: (observation) => void scene.observations.push(observation),
  });
  scene.orchestrators.push(orchestrator);
  const tick = (options: TickOptions = {}) => orchestrator.tick({ queues: [scene.queue], ...options });
  return {
    orchestrator,
    tick,
    driver,
    pendingTimers: () => timers.size,
    listens: () => listens,
    /**
     * The time of a tick with this `maxMs` is over now, however much of it its first statements have taken. Answers how
     * many timers were set for that.
     */
    elapse(maxMs: number): number {
      const due = [...timers].filter(({ ms }) => ms === maxMs);
      for (const timer of due) timer.ring();
      return due.length;
    },
    /** So much time goes by at once. Timers do not ring for it. */
    goOn(ms: number) {
      aheadMs += ms;
    },
  };
}

const counted = ({ claimed, succeeded, failed, retried, returned, lost, stuck }: Record<string, unknown>) => ({
  claimed,
  succeeded,
  failed,
  retried,
  returned,
  lost,
  stuck,
});
const nothing = { claimed: 0, succeeded: 0, failed: 0, retried: 0, returned: 0, lost: 0, stuck: 0 };

/** What is due next is this command, give or take what a Date does not hold of a time. */
async function isDueWith(orchestrator: Orchestrator, { nextDueAt }: TickResult, id: string): Promise<void> {
  const availableAt = (await orchestrator.get(id))?.availableAt;
  const apartMs = Math.abs(Number(nextDueAt) - Number(availableAt));
  truth(apartMs <= 1, `${nextDueAt?.toISOString()} is when it is due, ${availableAt?.toISOString()}`);
}

/** A handler that runs until it is aborted. */
const untilAborted = (aborted: AbortSignal) =>
  new Promise<never>((_, reject) => {
    aborted.addEventListener("abort", () => reject(aborted.reason), { once: true });
  });

export const tickCases: readonly Case[] = [
  scenario("tick() works off what is due, follow-ups among it, and says so", async (scene) => {
    const count = defineCommand(scene.define({ name: "count", input: v.number() }));
    const ran: number[] = [];
    const { orchestrator, tick, pendingTimers } = watched(scene, [
      count.handle(({ input, push }) => {
        ran.push(input);
        if (input > 0) push(count(input - 1));
      }),
    ]);
    await orchestrator.push([count(3), count(0)]);
    const { more, nextDueAt, comeBackInMs, ...counts } = await tick();
    same(
      ran.toSorted((a, b) => a - b),
      [0, 0, 1, 2, 3],
      "what ran",
    );
    same(counted(counts), { ...nothing, claimed: 5, succeeded: 5 }, "the counts");
    same([more, nextDueAt, comeBackInMs], [false, undefined, undefined], "when to come back");
    same(pendingTimers(), 0, "the timer of its time, which is not over");
    same(counted({ ...(await tick()) }), nothing, "the next one");
  }),

  scenario("tick() claims no more than maxCommands, and says that more is due", async (scene) => {
    const job = defineCommand(scene.define({ name: "job" }));
    let runs = 0;
    const { orchestrator, tick } = watched(scene, [job.handle(() => void runs++)]);
    await orchestrator.push(Array.from({ length: 7 }, () => job()));
    // It does not wait for its time to be over.
    const first = await tick({ maxCommands: 5, concurrency: 2, maxMs: 10 * minute });
    same([first.claimed, first.succeeded, runs], [5, 5, 5], "the first");
    same([first.more, first.comeBackInMs], [true, 0], "whether more is due");
    truth(first.nextDueAt && first.nextDueAt.getTime() <= Date.now() + 1_000, "it was due already");
    const second = await tick({ maxCommands: 5 });
    same([second.claimed, second.more, runs], [2, false, 7], "the second");
  }),

  scenario("tick() aborts what runs when its time is over, and hands it back unburnt", async (scene) => {
    const slow = defineCommand(scene.define({ name: "slow", retries: 1 }));
    const reasons: unknown[] = [];
    let isSlow = true;
    let rung = 0;
    const { orchestrator, tick, elapse } = watched(scene, [
      slow.handle(async ({ signal: aborted, attempt, fence }) => {
        if (!isSlow) return void reasons.push([attempt, fence]);
        setTimeout(() => {
          rung = elapse(10_000);
        }, 0);
        await untilAborted(aborted).catch((error) => {
          reasons.push(error.code);
          throw error;
        });
      }),
    ]);
    const { id } = await orchestrator.push(slow());
    const first = await tick({ maxMs: 10_000 });
    same(rung, 1, "how many timers end it when it has worked for as long as it was given");
    same(reasons, ["ORCHESTRATUM_STOPPED"], "why it was aborted");
    same(counted({ ...first }), { ...nothing, claimed: 1, returned: 1 }, "the counts");
    same([first.more, first.comeBackInMs], [true, 0], "when to come back");
    same((await orchestrator.get(id))?.status, "pending", "its status");
    isSlow = false;
    await tick();
    same(reasons[1], [1, 2], "attempt and fence of the next");
    same((await orchestrator.get(id))?.status, "succeeded", "its status");
  }),

  scenario("tick() comes back although a handler ignores its signal", async (scene) => {
    const deaf = defineCommand(scene.define({ name: "deaf" }));
    const end = signal();
    const { orchestrator, tick, elapse } = watched(scene, [
      deaf.handle(() => {
        setTimeout(() => elapse(10_000), 0);
        return end.got();
      }),
    ]);
    const { id } = await orchestrator.push(deaf());
    const result = await tick({ maxMs: 10_000, abortGraceMs: 50 });
    same([result.stuck, result.returned], [1, 1], "stuck and returned");
    same((await orchestrator.get(id))?.status, "pending", "its status");
    await orchestrator.cancel(id);
    end.give();
  }),

  scenario("tick() starts nothing that may run only once when its time is nearly over", async (scene) => {
    // In one lane, in which the order is that of the push: one claim in ten begins at a lane by chance.
    const first = defineCommand(scene.define({ name: "first" }));
    const once = defineCommand(scene.define({ name: "once", retries: 0 }));
    const short = defineCommand(scene.define({ name: "short", retries: 0, timeoutMs: 20 }));
    const ran: string[] = [];
    const { orchestrator, tick, goOn } = watched(scene, [
      first.handle(() => {
        goOn(12_000);
      }),
      once.handle(() => void ran.push("once")),
      short.handle(() => void ran.push("short")),
    ]);
    const pushed = await orchestrator.push([first(), once(), short()]);
    const result = await tick({ maxMs: 20_000, concurrency: 1 });
    same(ran, ["short"], "what ran");
    same([result.succeeded, result.returned, result.failed], [2, 1, 0], "the counts");
    const put = await orchestrator.get(pushed[1].id);
    same([put?.attempt, put?.status === "scheduled" || put?.status === "pending"], [0, true], "what was put off");
    // Eight seconds are left of this tick; an answer that came late makes it a little more.
    truth(result.comeBackInMs !== undefined && result.comeBackInMs <= 9_000, "it is put off to this tick's end");
    await orchestrator.reschedule(pushed[1].id, { delayMs: 0 });
    await tick({ maxMs: 20_000 });
    same(ran, ["short", "once"], "what ran in the end");
  }),

  scenario("tick() says when the next command is due", async (scene) => {
    const later = defineCommand(
      scene.define({ name: "later", input: v.boolean(), backoff: { initialMs: 90_000, jitter: "none" } }),
    );
    const { orchestrator, tick } = watched(scene, [
      later.handle(({ input }) => {
        if (input) throw new Error("not yet");
      }),
    ]);
    const runAt = new Date(Math.ceil(Date.now() / 1000) * 1000 + 10 * minute);
    await orchestrator.push(later(false, { runAt }));
    const far = await tick();
    same([far.more, far.nextDueAt], [false, runAt], "what is scheduled");
    truth(
      far.comeBackInMs !== undefined && far.comeBackInMs > 9 * minute,
      `${far.comeBackInMs} ms are 9 minutes at least`,
    );
    const { id } = await orchestrator.push(later(true));
    const near = await tick();
    same(near.retried, 1, "what is to be tried again");
    await isDueWith(orchestrator, near, id);
    truth(near.comeBackInMs && near.comeBackInMs > minute, `${near.comeBackInMs} ms are left of its backoff`);
  }),

  scenario("tick() does the background work that is due, once", async (scene) => {
    const job = defineCommand(scene.define({ name: "job" }));
    const { orchestrator, tick } = watched(scene, [job.handle(() => {})]);
    await tick();
    await scene.ground.driver.query("update orchestratum.duty set next_run_at = now(), lease_ends_at = null", []);
    scene.observations.length = 0;
    await tick();
    const done = scene.seen("duty_finished");
    const names = done.map(({ duty }) => duty);
    truth(names.includes("retention") && names.includes("statistics"), `${names} are the duties`);
    same(new Set(names).size, names.length, "each once");
    same(
      done.filter(({ error }) => error !== undefined),
      [],
      "those that failed",
    );
    const duties = await orchestrator.duties();
    same(
      duties.filter(({ worker }) => worker?.startsWith("tick")),
      [],
      "duties that are held",
    );
    scene.observations.length = 0;
    await tick();
    same(
      scene.seen("duty_finished").filter(({ duty }) => duty === "retention"),
      [],
      "what is not due again",
    );
  }),

  scenario(
    "tick() does not wait for a duty that is due later, while it does the one that is due now",
    async (scene) => {
      const job = defineCommand(scene.define({ name: "job" }));
      const { tick } = watched(scene, [job.handle(() => {})]);
      await tick();
      const dueAt = (next: string, names: string) =>
        scene.ground.driver.query(
          `update orchestratum.duty set next_run_at = ${next}, lease_ends_at = null where name ${names}`,
          [],
        );
      await dueAt("clock_timestamp() + interval '1 hour'", "<> 'retention'");
      await dueAt("clock_timestamp()", "= 'retention'");
      scene.observations.length = 0;
      const began = performance.now();
      await tick({ maxMs: 5 * minute });
      truth(performance.now() - began < minute / 2, "it came back when all was done");
      const done = scene.seen("duty_finished").map(({ duty }) => duty);
      same(done.includes("retention"), true, "the one that was due");
    },
  ),

  scenario("tick() beside others runs each command once", async (scene) => {
    const job = defineCommand(scene.define({ name: "job", input: v.number() }));
    const runs = new Map<number, number>();
    const handler = job.handle(async ({ input }) => {
      runs.set(input, (runs.get(input) ?? 0) + 1);
      await new Promise((resolve) => setTimeout(resolve, 1));
    });
    const [one, other] = [watched(scene, [handler]), watched(scene, [handler])];
    await one.orchestrator.push(Array.from({ length: 300 }, (_, index) => job(index)));
    const options = { concurrency: 10 };
    const results = await Promise.all([one.tick(options), one.tick(options), other.tick(options)]);
    same(
      results.reduce((sum, { succeeded }) => sum + succeeded, 0),
      300,
      "what succeeded",
    );
    same([runs.size, Math.max(...runs.values())], [300, 1], "how often each ran");
  }),

  scenario("tick() leaves nothing running: no timer, no listening, no lease, no worker", async (scene) => {
    const job = defineCommand(scene.define({ name: "job", input: v.string() }));
    const { orchestrator, tick, pendingTimers, listens, driver, elapse } = watched(scene, [
      job.handle(async ({ input, signal: aborted, attempt }) => {
        if (input === "bad") {
          // Its last: the slow one has begun long since.
          if (attempt === 4) setTimeout(() => elapse(10_000), 0);
          throw new Error("bad");
        }
        if (input === "slow") await untilAborted(aborted);
      }),
    ]);
    const other = defineCommand({ name: `other_${scene.queue}`, queue: `other-${scene.queue}` });
    await orchestrator.push([job("good"), job("bad"), job("slow"), other()]);
    await tick({ maxMs: 10_000 });
    same(
      [pendingTimers(), listens(), orchestrator.workers.length, orchestrator.isRunning],
      [0, 0, 0, false],
      "what is left",
    );
    const leased = await scene.ground.driver.query<{ count: string }>(
      "select count(*)::text as count from orchestratum.command where queue = $1::text and leased_by is not null",
      [scene.queue],
    );
    same(leased[0]?.count, "0", "leases");
    const before = driver.sent.length;
    await new Promise((resolve) => setTimeout(resolve, 100));
    same(driver.sent.length, before, "statements afterwards");
    same(scene.seen("worker_started").length + scene.seen("worker_stopped").length, 0, "workers that were shown");
    const listed = (await orchestrator.workerList()).filter(({ queues }) => queues.includes(scene.queue));
    same(
      listed.map(({ id, status, running }) => [id, status, running]),
      [[`tick:${scene.queue}`, "running", 0]],
      "the list of workers, in which all its ticks are one",
    );
  }),

  scenario("tick() with nothing to do costs a handful of statements", async (scene) => {
    const job = defineCommand(scene.define({ name: "job" }));
    const { orchestrator, tick, driver } = watched(scene, [job.handle(() => {})]);
    await scene.ground.driver.query("update orchestratum.duty set next_run_at = now() + interval '1 day'", []);
    try {
      await tick();
      truth(driver.sent.length <= 8, `${driver.sent.length} statements are few for the first`);
      let before = driver.sent.length;
      await tick();
      const idle = driver.sent.length - before;
      truth(idle <= 5, `${idle} statements are few for the next`);
      await orchestrator.push(Array.from({ length: 100 }, () => job()));
      before = driver.sent.length;
      same((await tick()).succeeded, 100, "what succeeded");
      const busy = driver.sent.length - before;
      truth(busy <= 12, `${busy} statements are few for a hundred commands`);
    } finally {
      await scene.ground.driver.query("update orchestratum.duty set next_run_at = now()", []);
    }
  }),

  scenario("tick() that is cut off half-way loses nothing", async (scene) => {
    const job = defineCommand(scene.define({ name: "job", retries: 3 }));
    const begun = signal();
    let gone = false;
    const cut = watched(
      scene,
      [
        job.handle(async ({ signal: aborted }) => {
          gone = true;
          begun.give();
          await untilAborted(aborted);
        }),
      ],
      {
        before: () => {
          if (gone) throw connectionReset();
        },
      },
    );
    const { id } = await cut.orchestrator.push(job());
    const dying = cut.tick({ maxMs: 10_000, abortGraceMs: 0 });
    await begun.got();
    const heir = watched(scene, [job.handle(() => {})]);
    const first = await heir.tick();
    same(first.claimed, 0, "what can be had while the lease lasts");
    await isDueWith(heir.orchestrator, first, id);
    // As long as the tick can take, which has five seconds to record its outcomes.
    truth(first.comeBackInMs !== undefined && first.comeBackInMs <= 15_200, "the lease ends soon");
    await scene.ground.driver.query(
      "update orchestratum.command set available_at = clock_timestamp() where id = $1::text::uuid",
      [id],
    );
    same((await heir.tick()).succeeded, 1, "what the next one did");
    cut.elapse(10_000);
    same((await dying).comeBackInMs, 5_000, "of what could not be asked");
    const ended = await heir.orchestrator.get(id);
    same([ended?.status, ended?.losses], ["succeeded", 1], "its end");
  }),

  scenario("tick() ends with its orchestrator, and none begins afterwards", async (scene) => {
    const slow = defineCommand(scene.define({ name: "slow" }));
    const begun = signal();
    const { orchestrator, tick } = watched(scene, [
      slow.handle(async ({ signal: aborted }) => {
        begun.give();
        await untilAborted(aborted);
      }),
    ]);
    await orchestrator.push(slow());
    const ticking = tick({ maxMs: minute });
    await begun.got();
    await orchestrator.stop({ graceMs: 0 });
    same((await ticking).returned, 1, "what was handed back");
    same((await rejection(tick())).code, "ORCHESTRATUM_STOPPED", "the next one");
  }),

  scenario("tick() refuses options out of their limits, and says what the database lacks", async (scene) => {
    const job = defineCommand(scene.define({ name: "job" }));
    const { orchestrator, tick } = watched(scene, [job.handle(() => {})]);
    const bad: [TickOptions, string][] = [
      [{ maxCommands: 0 }, "maxCommands"],
      [{ maxCommands: 100_001 }, "maxCommands"],
      [{ maxMs: 99 }, "maxMs"],
      [{ maxMs: 3_600_001 }, "maxMs"],
      [{ concurrency: 0 }, "concurrency"],
      [{ abortGraceMs: -1 }, "abortGraceMs"],
      [{ queues: ["a b"] }, "queue"],
      [{ queues: "a" as never }, "queues"],
    ];
    for (const [options, field] of bad) {
      const error = await rejection(tick(options));
      truth(error.message.startsWith("Cannot tick: ") && error.message.includes(field), error.message);
    }
    const idle = createOrchestrator({ database: scene.ground.driver });
    same((await rejection(idle.tick())).name, "TypeError", "without handlers");
    await idle.stop();
    const nowhere = createOrchestrator({
      database: scene.ground.driver,
      schema: "nowhere",
      handlers: [job.handle(() => {})],
    });
    same((await rejection(nowhere.tick())).code, "ORCHESTRATUM_NOT_MIGRATED", "without a schema");
    await nowhere.stop();
    same(orchestrator.workers.length, 0, "workers that are left");
  }),
];
