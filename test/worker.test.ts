import { readFileSync } from "node:fs";
import postgres from "postgres";
import * as v from "valibot";
import { afterEach, beforeEach, expect, test } from "vitest";
import { postgresJs } from "../adapters/postgres-js.ts";
import { systemClock } from "../src/clock.ts";
import {
  createOrchestrator,
  type Driver,
  defineCommand,
  type Executing,
  type Handler,
  type HandlerMiddleware,
  type Observation,
  type Orchestrator,
  PermanentFailure,
  type WorkerOptions,
} from "../src/index.ts";
import { parseMicros } from "../src/marks.ts";
import { createDatabase, type Database } from "./database.ts";
import {
  calls,
  type Fault,
  type FaultyDriver,
  failWhile,
  faulty,
  holdBack,
  holdReply,
  loseReply,
  runLate,
} from "./faulty-driver.ts";
import { outliveLease } from "./outlive-lease.ts";

const minute = 60_000;
const limited = { timeoutMs: 20_000 };
const backoff = { initialMs: 1, jitter: "none" } as const;
const looksAtPauses = /\bpaused_queue p\b[^;]*\bpaused_name\b/;

let database: Database;
let observations: Observation[];
const orchestrators: Orchestrator[] = [];
/** So far the workers' clock is ahead of the platform's. */
let aheadMs = 0;

beforeEach(async () => {
  aheadMs = 0;
  database = await createDatabase({ max: 8 });
  observations = [];
});

afterEach(async () => {
  await Promise.all(orchestrators.splice(0).map((one) => one.stop({ graceMs: 0 })));
  await database.drop();
});

const job = defineCommand({ name: "job", input: v.number(), output: v.number(), backoff });
const next = defineCommand({ name: "next", input: v.number(), backoff });

function orchestrate(handlers: readonly Handler[], ...faults: Fault[]) {
  const driver = faulty(postgresJs(database.sql), ...faults);
  const orchestrator = createOrchestrator({
    database: driver as Driver,
    handlers,
    commands: [job, next],
    clock: { ...systemClock, now: () => performance.now() + aheadMs },
    observe: (observation) => void observations.push(observation),
  });
  orchestrators.push(orchestrator);
  return { driver, orchestrator };
}

/** A worker that would sleep for a minute, were it not for hints. */
async function working(orchestrator: Orchestrator, options: WorkerOptions = {}) {
  const worker = orchestrator.startWorker({ pollIntervalMs: minute, ...options });
  await worker.started;
  return worker;
}

async function eventually<T>(look: () => Promise<T> | T, wanted: (value: T) => boolean, limitMs = 20_000): Promise<T> {
  const until = performance.now() + limitMs;
  for (;;) {
    const value = await look();
    if (wanted(value)) return value;
    if (performance.now() > until) throw new Error(`Not within ${limitMs} ms; the last was ${JSON.stringify(value)}`);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

const seen = <T extends Observation["type"]>(type: T) =>
  observations.filter((one) => one.type === type) as Extract<Observation, { type: T }>[];

/** Something that a handler waits for. */
function gate() {
  let open = () => {};
  const opened = new Promise<void>((resolve) => {
    open = resolve;
  });
  return { open, opened };
}

test("a claim whose reply is lost is handed back, and its attempt was not used up", async () => {
  const runs: number[] = [];
  const { orchestrator } = orchestrate(
    [
      job.handle(({ input, attempt }) => {
        runs.push(attempt);
        return input;
      }),
    ],
    loseReply(calls("claim")),
  );
  const { id } = await orchestrator.push(job(1, { retries: 0 }));
  await working(orchestrator);
  expect(await orchestrator.waitFor(id, limited)).toMatchObject({ status: "succeeded" });
  expect(runs).toEqual([1]);
  expect(await orchestrator.get(id)).toMatchObject({ attempt: 1, fence: 2, losses: 0 });
  expect(seen("leases_given_back")).toMatchObject([{ count: 1 }]);
});

test.each([
  ["what is due next", calls("next_due"), 2_000],
  ["what is paused", looksAtPauses, 2_000],
  // Within two of its leases it asks, or never.
  ["what may have been leased", calls("give_back"), 6_000],
] as const)(
  "a worker that is not answered when it asks %s is not kept from claiming for longer than from a claim",
  async (_, pattern, leaseMs) => {
    const silent = holdReply(pattern);
    const { orchestrator } = orchestrate([job.handle(({ input }) => input)], loseReply(calls("claim")), silent);
    await working(orchestrator, { leaseMs });
    await silent.arrived;
    const { id } = await orchestrator.push(job(1));
    expect(await orchestrator.waitFor(id, limited)).toMatchObject({ status: "succeeded" });
    silent.release();
  },
);

test("a claim that commits after it seemed to have failed, and after others looked, is handed back, too", async () => {
  const late = runLate(calls("claim"));
  // The first is not sent at all, for now.
  const second = holdBack(calls("claim"));
  const { orchestrator } = orchestrate([job.handle(({ input }) => input)], second, late);
  const { id } = await orchestrator.push(job(1, { retries: 0 }));
  await working(orchestrator);
  // The first has failed, and what it might have leased was looked for, in vain.
  await second.arrived;
  late.release();
  await late.ran;
  second.release();
  // It claims once more, and hands back first.
  orchestrator.wake(["default"]);
  expect(await orchestrator.waitFor(id, limited)).toMatchObject({ status: "succeeded" });
  expect(await orchestrator.get(id)).toMatchObject({ attempt: 1, fence: 2, losses: 0 });
});

test("an outcome whose reply is lost is repeated, and its follow-ups are pushed once", async () => {
  const ran: number[] = [];
  const { driver, orchestrator } = orchestrate(
    [
      job.handle(({ input }) => input, { onSuccess: ({ output }) => next(output) }),
      next.handle(({ input }) => void ran.push(input)),
    ],
    loseReply(calls("finish")),
  );
  const worker = await working(orchestrator);
  const { id } = await orchestrator.push(job(7));
  // Nobody waits for it: the lock of whoever marks it as awaited can make the first reply, which is lost, a "busy".
  await eventually(
    () => worker.counts,
    (counts) => counts.succeeded === 2,
  );
  expect(await orchestrator.get(id)).toMatchObject({ status: "succeeded", output: 7 });
  expect(ran).toEqual([7]);
  expect(driver.count(calls("confirm"))).toBe(1);
  expect(worker.counts.lost).toBe(0);
  expect(await database.sql`select name from orchestratum.history order by name`).toEqual([
    { name: "job" },
    { name: "next" },
  ]);
});

test("an outcome that the database has no room for is kept until it has", async () => {
  let full = true;
  const noRoom = () => Object.assign(new Error("could not extend file: No space left on device"), { code: "53100" });
  const { driver, orchestrator } = orchestrate(
    [job.handle(({ input }) => input)],
    failWhile(calls("finish"), () => full, noRoom),
  );
  const worker = await working(orchestrator);
  const { id } = await orchestrator.push(job(1, { retries: 0 }));
  await eventually(
    () => driver.count(calls("finish")),
    (count) => count >= 4,
  );
  full = false;
  expect(await orchestrator.waitFor(id, limited)).toMatchObject({ status: "succeeded" });
  await eventually(
    () => worker.counts,
    (counts) => counts.succeeded + counts.failed === 1,
  );
  expect(worker.counts).toMatchObject({ claimed: 1, succeeded: 1, failed: 0 });
});

test("a row that somebody has locked holds up its own outcome and no other", async () => {
  const both = gate();
  const { orchestrator } = orchestrate([
    job.handle(async ({ input }) => {
      await both.opened;
      return input;
    }),
  ]);
  const worker = await working(orchestrator);
  const [locked, free] = await orchestrator.push([job(1), job(2)]);
  await eventually(
    () => worker.counts.running,
    (running) => running === 2,
  );
  await database.sql.begin(async (tx) => {
    await tx`select from orchestratum.command where id = ${locked.id} for update`;
    both.open();
    expect(await orchestrator.waitFor(free.id, limited)).toMatchObject({ status: "succeeded" });
    expect(await orchestrator.get(locked.id)).toMatchObject({ status: "running" });
  });
  expect(await orchestrator.waitFor(locked.id, limited)).toMatchObject({ status: "succeeded", output: 1 });
});

test("an outcome that the database refuses because of what is in it fails alone", async () => {
  await database.sql.unsafe(`
    create function public.refuse() returns trigger language plpgsql as $$
    begin
      raise exception 'not this one' using errcode = '22000';
    end $$;
    create trigger refuse before insert on orchestratum.history_0 for each row
      when (new.output::text = '13') execute function public.refuse();`);
  for (let slot = 1; slot < 32; slot++) {
    await database.sql.unsafe(`create trigger refuse before insert on orchestratum.history_${slot} for each row
      when (new.output::text = '13') execute function public.refuse()`);
  }
  const all = gate();
  const { orchestrator } = orchestrate([
    job.handle(async ({ input }) => {
      await all.opened;
      return input;
    }),
  ]);
  const worker = await working(orchestrator);
  const pushed = await orchestrator.push(Array.from({ length: 20 }, (_, index) => job(index, { retries: 0 })));
  await eventually(
    () => worker.counts.running,
    (running) => running === 20,
  );
  all.open();
  const outcomes = await Promise.all(pushed.map(({ id }) => orchestrator.waitFor(id, limited)));
  expect(outcomes.filter((outcome) => outcome.status === "succeeded")).toHaveLength(19);
  expect(outcomes[13]).toMatchObject({ status: "failed", error: { code: "refused" } });
  await eventually(
    () => worker.counts,
    ({ succeeded, failed }) => succeeded + failed === 20,
  );
  // And it is observed, and counted, as what it came to.
  expect(seen("command_finished").filter(({ verdict }) => verdict === "failed")).toMatchObject([
    { id: (pushed[13] as { id: string }).id, error: { code: "refused" } },
  ]);
  expect([worker.counts.succeeded, worker.counts.failed]).toEqual([19, 1]);
});

test("a handler that holds its own row in a transaction while heartbeats come does not lose its lease", async () => {
  const leaseMs = 30_000;
  const { driver, orchestrator } = orchestrate([
    job.handle(async (context) => {
      await database.sql.begin(async (tx) => {
        await tx`select from orchestratum.command where id = ${context.id} for update`;
        // A heartbeat at once, which meets the lock, and so does the next.
        context.progress(1);
        await eventually(
          () => driver.count(calls("heartbeat")),
          (count) => count >= 2,
        );
      });
      // One of those that follow is accepted.
      await outliveLease(database.sql, leaseMs, context);
      return context.input;
    }),
  ]);
  await working(orchestrator, { leaseMs });
  const { id } = await orchestrator.push(job(1));
  expect(await orchestrator.waitFor(id, limited)).toMatchObject({ status: "succeeded" });
  expect(await orchestrator.get(id)).toMatchObject({ fence: 1 });
  expect(seen("lease_lost")).toEqual([]);
});

test("a worker that cannot extend its leases stops trusting them, and writes nothing more", async () => {
  let reasons: unknown;
  const { driver, orchestrator } = orchestrate(
    [
      job.handle(
        ({ signal }) =>
          new Promise((resolve) => {
            signal.addEventListener("abort", () => {
              reasons = (signal.reason as { code: string }).code;
              resolve(1);
            });
          }),
      ),
    ],
    failWhile(calls("heartbeat"), () => true),
  );
  const worker = await working(orchestrator, { leaseMs: 1_000 });
  const { id } = await orchestrator.push(job(1));
  await eventually(
    () => reasons,
    (reason) => reason !== undefined,
  );
  // Whatever its fence: a claim whose reply comes too late is handed back, and another follows.
  expect(seen("lease_lost")[0]).toMatchObject({ id, reason: "expired" });
  expect(reasons).toBe("ORCHESTRATUM_LEASE_LOST");
  const finishes = driver.sent.filter(
    ({ text, params }) => calls("finish").test(text) && String(params[1]).includes(id),
  );
  expect(finishes).toEqual([]);
  expect(worker.counts.succeeded).toBe(0);
});

test("a lease that somebody else took is noticed by the heartbeat, and the handler aborted", async () => {
  const aborted = gate();
  let beat = () => {};
  const { orchestrator } = orchestrate([
    job.handle(async ({ signal, fence, progress }) => {
      if (fence > 1) return 2;
      beat = () => progress(1);
      await new Promise<void>((resolve) => signal.addEventListener("abort", () => resolve()));
      aborted.open();
      return 1;
    }),
  ]);
  const worker = await working(orchestrator);
  const { id } = await orchestrator.push(job(1));
  await eventually(
    () => worker.counts.running,
    (running) => running === 1,
  );
  await database.sql`update orchestratum.command set fence = fence + 1, leased_by = 'somebody else' where id = ${id}`;
  beat();
  await aborted.opened;
  expect(seen("lease_lost")[0]).toMatchObject({ id, fence: 1, reason: "taken" });
  await database.sql`update orchestratum.command set leased_by = null, available_at = clock_timestamp() where id = ${id}`;
  orchestrator.wake(["default"]);
  expect(await orchestrator.waitFor(id, limited)).toMatchObject({ status: "succeeded", output: 2 });
});

test("who claims what a worker left says so, and of nothing else", async () => {
  const { orchestrator } = orchestrate([job.handle(({ input }) => input)]);
  const { id } = await orchestrator.push(job(1));
  // As after a kill: nobody is left who could report the loss.
  await database.sql`
    select id
    from orchestratum.claim('killed', '[{"queue": "default", "priority": 5}]', 10, 8000000, 1)`;
  await working(orchestrator);
  expect(await orchestrator.waitFor(id, limited)).toMatchObject({ status: "succeeded" });
  await orchestrator.waitFor((await orchestrator.push(job(2))).id, limited);
  expect(seen("lease_abandoned")).toEqual([
    expect.objectContaining({ id, name: "job", fence: 2, attempt: 2, abandonedBy: "killed" }),
  ]);
  expect(seen("lease_lost")).toEqual([]);
});

test("what somebody has locked while it is due is found a moment after it is free, without a hint, a poll or a rescan", async () => {
  const { orchestrator, driver } = orchestrate([job.handle(({ input }) => input)]);
  const { id } = await orchestrator.push(job(1, { delayMs: 1_500 }));
  await database.sql`insert into orchestratum.duty (name, next_run_at) values ('rescan default', '9999-12-31')`;
  await database.sql.begin(async (tx) => {
    await tx`select from orchestratum.command where id = ${id} for update`;
    await working(orchestrator);
    await eventually(
      () => tx`select from orchestratum.command where available_at < clock_timestamp() - interval '200 ms'`,
      (rows) => rows.length === 1,
    );
    // It has begun by now, and was told of all that it is told at its beginning.
    const before = driver.count(calls("claim"));
    await eventually(
      () => driver.count(calls("claim")),
      (count) => count >= before + 3,
    );
  });
  expect(await orchestrator.waitFor(id, limited)).toMatchObject({ status: "succeeded" });
});

test("what was scheduled before the worker came runs when it is due, without a hint or a poll", async () => {
  const { orchestrator } = orchestrate([job.handle(({ input }) => input)]);
  const { id } = await orchestrator.push(job(1, { delayMs: 1_500 }));
  await working(orchestrator);
  expect(await orchestrator.waitFor(id, limited)).toMatchObject({ status: "succeeded" });
});

test("what became visible behind the marks, without a hint, is found by the rescan", async () => {
  const { driver, orchestrator } = orchestrate([job.handle(({ input }) => input)]);
  await working(orchestrator, { rescanBudget: 1 });
  let hidden = "";
  let hiddenFrom = Number.POSITIVE_INFINITY;
  const holding = gate();
  const held = database.sql.begin(async (tx) => {
    // As an older library, or somebody's own SQL, might: no notification follows.
    const [row] = await tx`
      insert into orchestratum.command (id, name, version, queue, priority, due_at, available_at, max_attempts, timeout_ms, input, created_at)
      values (gen_random_uuid(), 'job', 1, 'default', 5, now(), now(), 4, 60000, '1', now())
      returning id::text, to_char(available_at at time zone 'UTC', 'YYYY-MM-DD HH24:MI:SS.US"+00"') as from`;
    hidden = row?.id as string;
    hiddenFrom = parseMicros(row?.from);
    await holding.opened;
  });
  // The marks move on while it is open.
  await eventually(
    async () => {
      await orchestrator.waitFor((await orchestrator.push(job(0))).id, limited);
      return Math.max(...marksOf(driver));
    },
    (mark) => mark > hiddenFrom,
  );
  const before = marksOf(driver).length;
  holding.open();
  await held;
  expect(await orchestrator.waitFor(hidden, limited)).toMatchObject({ status: "succeeded" });
  // From below, by a claim that was under way at most: no other can have found it.
  expect(marksOf(driver).slice(before - 1)).toContain(Number.NEGATIVE_INFINITY);
});

/** Where the claims so far began, in the lane that jobs are in. */
function marksOf(driver: FaultyDriver): number[] {
  return driver.sent
    .filter(({ text }) => calls("claim").test(text))
    .map(({ params }) => {
      const lanes = JSON.parse(String(params[1])) as { priority: number; mark_at: string }[];
      const [mark] = lanes.flatMap((lane) => (lane.priority === 5 ? lane.mark_at : []));
      return parseMicros((mark as string).replace("T", " "));
    });
}

/** A command that nobody hinted at, and that lies behind the marks of whoever works: as another program's SQL might leave one. */
async function pushBehindTheMarks(): Promise<string> {
  const [row] = await database.sql`
    insert into orchestratum.command (id, name, version, queue, priority, due_at, available_at, max_attempts, timeout_ms, input, created_at)
    values (
      gen_random_uuid(), 'job', 1, 'default', 5, now(), now() - interval '1 hour', 4, 60000, '-1', now()
    ) returning id::text`;
  return row?.id as string;
}

test("a worker that meets a backlog reads it by its marks, not again and again from below", async () => {
  const { orchestrator, driver } = orchestrate([job.handle(({ input }) => input)]);
  const ids = await orchestrator.push(Array.from({ length: 500 }, (_, n) => job(n)));
  await working(orchestrator, { concurrency: 10 });
  await orchestrator.waitFor(
    ids.map(({ id }) => id),
    limited,
  );
  const marks = marksOf(driver);
  const fromBelow = marks.filter((mark) => mark === Number.NEGATIVE_INFINITY);
  expect(marks.length).toBeGreaterThan(50);
  // The first two, since a mark follows the claim before the last, and rescans, of which there is one a second.
  expect(fromBelow.length).toBeLessThan(marks.length / 5);
});

test("in a backlog never more run at once than there are slots", async () => {
  let running = 0;
  let most = 0;
  const full = gate();
  const { orchestrator } = orchestrate([
    job.handle(async ({ input }) => {
      most = Math.max(most, ++running);
      if (running === 6) full.open();
      // However slowly the first claims follow one another.
      await full.opened;
      await new Promise((resolve) => setTimeout(resolve, 100));
      running--;
      return input;
    }),
  ]);
  const ids = await orchestrator.push(Array.from({ length: 40 }, (_, n) => job(n)));
  await working(orchestrator, { concurrency: 6, maxClaim: 2 });
  await orchestrator.waitFor(
    ids.map(({ id }) => id),
    limited,
  );
  expect(most).toBe(6);
});

test("what a claim brings when the worker stops is handed back unburnt", async () => {
  let runs = 0;
  let stopped: Promise<void> | undefined;
  const stopping: Fault = {
    before(text) {
      if (calls("claim").test(text)) stopped ??= worker.stop();
    },
  };
  const { orchestrator } = orchestrate(
    [
      job.handle(({ input }) => {
        runs++;
        return input;
      }),
    ],
    stopping,
  );
  await orchestrator.push(Array.from({ length: 40 }, (_, n) => job(n)));
  const worker = orchestrator.startWorker({ pollIntervalMs: minute, concurrency: 20, maxClaim: 5 });
  await eventually(
    () => stopped !== undefined,
    (is) => is,
  );
  await stopped;
  expect(runs).toBe(0);
  expect(
    await database.sql`select count(*)::int, max(attempt) as attempt, max(leased_by) as by from orchestratum.command`,
  ).toEqual([{ count: 40, attempt: 0, by: null }]);
  expect(worker.counts.returned).toBe(5);
});

test("a worker without a free slot rescans as soon as it has one", async () => {
  const { orchestrator } = orchestrate([
    job.handle(async ({ input }) => {
      await new Promise((resolve) => setTimeout(resolve, 700));
      return input;
    }),
  ]);
  const ids = await orchestrator.push(Array.from({ length: 40 }, (_, n) => job(n)));
  await working(orchestrator, { concurrency: 1, rescanBudget: 1 });
  // The marks have moved on by then.
  await orchestrator.waitFor((ids[3] as { id: string }).id, limited);
  const hidden = await pushBehindTheMarks();
  expect(await orchestrator.waitFor(hidden, limited)).toMatchObject({ status: "succeeded" });
  // And not after all that were before it, which take longer than it was waited for.
  expect((await orchestrator.counts()).find(({ status }) => status === "pending")?.count).toBeGreaterThan(0);
});

test("a suspect whose lease was over before it could run alone is handed back, and runs alone later", async () => {
  const other = defineCommand({ name: "other", queue: "other" });
  const end = gate();
  const { orchestrator } = orchestrate([
    other.handle(async () => {
      await end.opened;
      aheadMs = beyondTrustMs;
    }),
    job.handle(({ input }) => input),
  ]);
  await orchestrator.push(other());
  const beside = await working(orchestrator, { queues: ["other"], leaseMs: 30_000 });
  await eventually(
    () => beside.counts.running,
    (running) => running === 1,
  );
  const { id } = await orchestrator.push(job(1));
  await database.sql`update orchestratum.command set losses = 2 where id = ${id}`;
  const worker = await working(orchestrator, { queues: ["default"], leaseMs: 30_000 });
  await eventually(
    () => worker.counts.claimed,
    (claimed) => claimed === 1,
  );
  end.open();
  expect(await orchestrator.waitFor(id, limited)).toMatchObject({ status: "succeeded" });
  expect(await orchestrator.get(id)).toMatchObject({ attempt: 1, fence: 2, losses: 2 });
  expect(await orchestrator.waitFor((await orchestrator.push(job(2))).id, limited)).toMatchObject({
    status: "succeeded",
  });
});

test("while a suspect runs alone, duties go on", async () => {
  const [suspected, end] = [gate(), gate()];
  const { orchestrator } = orchestrate([
    job.handle(async ({ input }) => {
      if (input !== 666) return input;
      suspected.open();
      await end.opened;
      return input;
    }),
  ]);
  const { id } = await orchestrator.push(job(666));
  await database.sql`update orchestratum.command set losses = 2 where id = ${id}`;
  await working(orchestrator, { rescanBudget: 1 });
  await suspected.opened;
  const before = seen("duty_finished").filter(({ duty }) => duty === "rescan default").length;
  await eventually(
    () => seen("duty_finished").filter(({ duty }) => duty === "rescan default").length,
    (count) => count > before,
  );
  end.open();
  expect(await orchestrator.waitFor(id, limited)).toMatchObject({ status: "succeeded" });
});

test("a cancellation that is heard of while its command is being claimed aborts it at once", async () => {
  const held = holdReply(calls("claim"));
  const { orchestrator } = orchestrate(
    [
      job.handle(async ({ input, signal }) => {
        await new Promise((_, reject) => signal.addEventListener("abort", () => reject(signal.reason)));
        return input;
      }),
    ],
    held,
  );
  const { id } = await orchestrator.push(job(1));
  await working(orchestrator);
  await held.arrived;
  expect(await orchestrator.cancel(id)).toBe("requested");
  // The notification has come by then.
  await new Promise((resolve) => setTimeout(resolve, 500));
  held.release();
  const begun = performance.now();
  expect(await orchestrator.waitFor(id, limited)).toMatchObject({ status: "cancelled" });
  // A heartbeat would come after ten.
  expect(performance.now() - begun).toBeLessThan(9_000);
});

test("an event loop that stood still is blamed on what ran last, however many others run", async () => {
  const begun = gate();
  let calm = 0;
  const blocker = defineCommand({ name: "blocker", input: v.number(), output: v.number() });
  const { orchestrator } = orchestrate([
    job.handle(async ({ input }) => {
      // A short stretch of its own, which is longer than the blocker's first.
      for (const until = performance.now() + 5; performance.now() < until; );
      if (++calm === 20) begun.open();
      await new Promise((resolve) => setTimeout(resolve, 4_000));
      return input;
    }),
    blocker.handle(async ({ input }) => {
      await begun.opened;
      await new Promise((resolve) => setTimeout(resolve, 100));
      for (const until = performance.now() + 1_500; performance.now() < until; );
      return input;
    }),
  ]);
  await orchestrator.push([...Array.from({ length: 20 }, (_, n) => job(n)), blocker(1)]);
  await working(orchestrator, { leaseMs: 3_000 });
  // And not by a moment that the machine was busy.
  const blocked = await eventually(
    () => seen("event_loop_blocked").find(({ blockedMs }) => blockedMs >= 1_000),
    (one) => one !== undefined,
  );
  expect(blocked?.commands[0]?.name).toBe("blocker");
  expect(blocked?.commands).toHaveLength(21);
});

/** Longer than a worker trusts a lease of 30 s; the lease itself goes on. */
const beyondTrustMs = 28_500;

/** Pushes three, of which the first to be called fills the event loop until all their leases are over. Answers who was called. */
async function fillEventLoop(turn: typeof anyTurn, middleware: readonly HandlerMiddleware[] = []) {
  const called: { input: unknown; fence: number }[] = [];
  const { orchestrator } = orchestrate([
    turn.handle(
      ({ input, fence }) => {
        called.push({ input, fence });
        if (called.length === 1) aheadMs = beyondTrustMs;
      },
      { middleware },
    ),
  ]);
  await orchestrator.push([1, 2, 3].map((n) => turn(n)));
  const worker = await working(orchestrator, { leaseMs: 30_000, abortGraceMs: 500 });
  return { orchestrator, worker, called };
}

const anyTurn = defineCommand({ name: "turn", input: v.unknown() });
const asyncTurn = defineCommand({
  name: "turn",
  input: v.pipeAsync(
    v.unknown(),
    v.checkAsync(async () => true),
  ),
});

test.each([
  ["whose input is parsed", anyTurn],
  ["that begin at once", defineCommand({ name: "turn" }) as typeof anyTurn],
])("what had not begun when its lease was over is handed back unburnt: commands %s", async (_, turn) => {
  const { called } = await fillEventLoop(turn);
  await eventually(
    () => database.sql`select from orchestratum.history`,
    (rows) => rows.length === 2,
  );
  const others = [1, 2, 3].filter((input) => input !== called[0]?.input);
  expect(called[0]?.fence).toBe(1);
  expect(called.slice(1).toSorted((a, b) => Number(a.input) - Number(b.input))).toEqual(
    others.map((input) => ({ input, fence: 2 })),
  );
  expect(await database.sql`select input, attempt, losses from orchestratum.history order by input::text`).toEqual(
    others.map((input) => ({ input, attempt: 1, losses: 0 })),
  );
  expect(seen("lease_lost")).toMatchObject([{ fence: 1, reason: "expired" }]);
});

test("no handler is called whose lease was over when its turn came, and its slot is free again", async () => {
  // The middleware of those that are not called never comes back.
  const hanging: HandlerMiddleware = {
    async execute({ signal }, next) {
      await next();
      if (signal.aborted) await new Promise(() => {});
    },
  };
  const { orchestrator, worker, called } = await fillEventLoop(asyncTurn as unknown as typeof anyTurn, [hanging]);
  await eventually(
    () => seen("lease_lost"),
    (them) => them.length === 3,
  );
  await eventually(
    () => seen("handler_stuck"),
    (them) => them.length === 2,
  );
  expect(called).toHaveLength(1);
  expect(worker.counts).toMatchObject({ stuck: 2, running: 0 });
  await orchestrator.stop({ graceMs: 0 });
});

/** A job that may be started once, with something that happens to it between its claim and its handler's call. */
async function interrupted(happens: (executing: Executing, orchestrator: Orchestrator) => unknown) {
  let calls = 0;
  const middleware: HandlerMiddleware = {
    async execute(executing, next) {
      await happens(executing, orchestrator);
      await next();
    },
  };
  const handler = job.handle(
    ({ input }) => {
      calls++;
      return input;
    },
    { middleware: [middleware] },
  );
  const { orchestrator } = orchestrate([handler]);
  const { id } = await orchestrator.push(job(1, { timeoutMs: 10_000, retries: 0 }));
  await working(orchestrator, { abortGraceMs: 500 });
  return { id, orchestrator, calls: () => calls };
}

const aborted = (signal: AbortSignal) => new Promise((resolve) => signal.addEventListener("abort", resolve));

test("an attempt whose time is over before its handler is called has timed out", async () => {
  const { id, orchestrator, calls } = await interrupted(() => {
    aheadMs = 10_500;
  });
  expect(await orchestrator.waitFor(id, limited)).toMatchObject({ status: "timed_out" });
  expect(calls()).toBe(0);
});

test("a command that is cancelled before its handler is called ends as cancelled, without an error", async () => {
  const { id, orchestrator, calls } = await interrupted(async (executing, orchestrator) => {
    await Promise.all([aborted(executing.signal), orchestrator.cancel(executing.id)]);
  });
  expect(await orchestrator.waitFor(id, limited)).toMatchObject({ status: "cancelled", error: undefined });
  expect(calls()).toBe(0);
  await eventually(
    () => seen("command_finished").map(({ verdict }) => verdict),
    (verdicts) => verdicts[0] === "cancelled",
  );
});

test.each<[string, (signal: AbortSignal) => Promise<unknown>]>([
  ["goes on all the same", aborted],
  ["ends by its signal", async (signal) => aborted(signal).then(() => signal.throwIfAborted())],
  ["outlasts its grace", () => new Promise(() => {})],
])("what a stop aborts while its middleware is at it is handed back, also where that %s", async (_, until) => {
  let stopped: Promise<void> | undefined;
  const { calls } = await interrupted(async ({ signal }, orchestrator) => {
    const ended = until(signal);
    stopped = orchestrator.stop({ graceMs: 0 });
    await ended;
  });
  await eventually(
    () => stopped !== undefined,
    (is) => is,
  );
  await stopped;
  expect(calls()).toBe(0);
  expect(
    await database.sql`select attempt, losses, leased_by, trail -> 0 ->> 'code' as code from orchestratum.command`,
  ).toEqual([{ attempt: 0, losses: 0, leased_by: null, code: "released" }]);
});

test("a hook is not run whose lease was over when its turn came", async () => {
  let ran = false;
  const { orchestrator } = orchestrate([
    job.handle(
      () => {
        throw new PermanentFailure("never");
      },
      {
        middleware: [
          {
            async execute({ hook, fence }, next) {
              if (hook && fence === 1) aheadMs = beyondTrustMs;
              await next();
            },
          },
        ],
        onFailure: () => {
          ran = true;
        },
      },
    ),
  ]);
  const { id } = await orchestrator.push(job(1));
  await working(orchestrator, { leaseMs: 30_000 });
  expect(await orchestrator.waitFor(id, limited)).toMatchObject({ status: "failed" });
  await eventually(
    () => seen("lease_lost"),
    (them) => them.length === 1,
  );
  expect(ran).toBe(false);
});

test("a handler that is stuck frees its slot once, also where its lease was lost before its end was recorded", async () => {
  const end = gate();
  const finish = holdBack(calls("finish"));
  const { orchestrator } = orchestrate(
    [
      job.handle(async ({ input }) => {
        await end.opened;
        return input;
      }),
    ],
    finish,
  );
  await orchestrator.push(job(1, { timeoutMs: 100 }));
  const worker = await working(orchestrator, { abortGraceMs: 100 });
  await finish.arrived;
  await eventually(
    () => worker.counts.stuck,
    (stuck) => stuck === 1,
  );
  await database.sql`
    update orchestratum.command
    set fence = fence + 1, leased_by = 'somebody', available_at = now() + interval '1 hour'`;
  finish.release();
  await eventually(
    () => worker.counts.lost,
    (lost) => lost === 1,
  );
  await new Promise((resolve) => setTimeout(resolve, 300));
  expect(worker.counts).toMatchObject({ running: 0, stuck: 1 });
  expect(seen("handler_stuck")).toHaveLength(1);
  end.open();
  await eventually(
    () => worker.counts.stuck,
    (stuck) => stuck === 0,
  );
  expect(worker.counts.running).toBe(0);
});

test("duties are done by one worker at a time, and recorded", async () => {
  const first = orchestrate([job.handle(({ input }) => input)]);
  const second = orchestrate([job.handle(({ input }) => input)]);
  await Promise.all([working(first.orchestrator), working(second.orchestrator)]);
  const { id } = await first.orchestrator.push(job(1));
  await first.orchestrator.waitFor(id, limited);
  const duties = await eventually(
    () => database.sql`select * from orchestratum.duty order by name`,
    (rows) => rows.length === 4 && rows.every((row) => row.last_finished_at !== null && row.leased_by === null),
  );
  expect(duties.map((row) => row.name)).toEqual(["events", "rescan default", "retention", "statistics"]);
  for (const duty of duties) {
    expect(duty).toMatchObject({ last_error: null });
    expect(duty.last_duration_ms).toBeGreaterThan(0);
    expect(duty.next_run_at.getTime()).toBeGreaterThan(duty.last_finished_at.getTime());
  }
  // Retention is due once an hour or so: whoever of the two came second has not done it again.
  expect(seen("duty_finished").filter((one) => one.duty === "retention")).toHaveLength(1);
});

test("retention that fails is recorded with its error, and done again", async () => {
  await database.sql.unsafe(`alter function orchestratum.expire_history rename to expire_history_away`);
  const { orchestrator } = orchestrate([job.handle(({ input }) => input)]);
  await working(orchestrator);
  const recorded = () =>
    database.sql`select last_error from orchestratum.duty where name = 'retention' and last_finished_at is not null`;
  const [failed] = await eventually(recorded, (rows) => rows.length === 1);
  expect(failed?.last_error).toContain("migrate");
  // As if ten seconds had gone by, after which it is asked for again, when something else gives cause to look.
  await database.sql.unsafe(`
    alter function orchestratum.expire_history_away rename to expire_history;
    update orchestratum.duty set next_run_at = clock_timestamp() where name = 'retention'`);
  aheadMs = 10_500;
  await orchestrator.waitFor((await orchestrator.push(job(1))).id, limited);
  await eventually(recorded, (rows) => rows[0]?.last_error === null);
});

/** Nobody looks before it is done: a duty leaves a slot that somebody reads to its next turn, which is far off. */
async function done(duty: string): Promise<void> {
  const [first] = await eventually(
    () => seen("duty_finished").filter((one) => one.duty === duty),
    (them) => them.length > 0,
  );
  expect(first?.error).toBeUndefined();
}

test("old events are emptied by the duty where a retention is set, newer ones stay", async () => {
  await database.sql.unsafe(`
    update orchestratum.setting set keep_events = '7 days';
    insert into orchestratum.event (id, slot, topic, appended_at)
    select gen_random_uuid(), orchestratum.event_slot(now() - days * interval '1 day'), 'old', now() - days * interval '1 day'
    from (values (7.6), (3)) r (days)`);
  const { orchestrator } = orchestrate([job.handle(({ input }) => input)]);
  await working(orchestrator);
  await done("events");
  const rows = await database.sql`select appended_at from orchestratum.event`;
  expect(rows).toHaveLength(1);
  expect(rows[0]?.appended_at.getTime()).toBeGreaterThan(Date.now() - 4 * 24 * 3_600_000);
});

test("old rows of history are emptied by the duty, newer ones stay", async () => {
  await database.sql.unsafe(`
    insert into orchestratum.history (slot, id, name, version, queue, priority, status, due_at, fence, attempt, max_attempts, losses,
      timeout_ms, finished_at, created_at)
    select slot, gen_random_uuid(), 'old', 1, 'default', 5, 'succeeded', now(), 1, 1, 1, 0, 1000, at, at
    from (values
      (orchestratum.history_slot(now() - interval '7 days 12 hours', true), now() - interval '7 days 12 hours'),
      (orchestratum.history_slot(now() - interval '3 days', true), now() - interval '3 days')
    ) r (slot, at)`);
  const { orchestrator } = orchestrate([job.handle(({ input }) => input)]);
  await working(orchestrator);
  await done("retention");
  const rows = await database.sql`select finished_at from orchestratum.history`;
  expect(rows).toHaveLength(1);
  expect(rows[0]?.finished_at.getTime()).toBeGreaterThan(Date.now() - 4 * 24 * 3_600_000);
});

test("functions with one more argument and one more column are put beneath a worker at work, which goes on", async () => {
  const { orchestrator } = orchestrate([
    job.handle(({ input }) => input, { onSuccess: ({ output }) => next(output) }),
    next.handle(() => {}),
  ]);
  const worker = await working(orchestrator);
  let pushing = true;
  let pushed = 0;
  const pusher = (async () => {
    while (pushing) {
      await orchestrator.push(job(pushed));
      pushed++;
    }
  })();
  await eventually(
    () => worker.counts.succeeded,
    (count) => count > 50,
  );
  // As the next release would: every function dropped and created again, in one transaction.
  const source = (name: string) => readFileSync(new URL(`../sql/functions/${name}.sql`, import.meta.url), "utf8");
  const newer = source("claim")
    .replace(
      "at timestamptz default clock_timestamp()\n",
      "at timestamptz default clock_timestamp(), hint text default null\n",
    )
    .replace("more boolean\n)", "more boolean, since text\n)")
    .replace("f.available_at::text, null::boolean", "f.available_at::text, null::boolean, null::text");
  expect(newer).not.toBe(source("claim"));
  await database.sql.begin(async (tx) => {
    await tx.unsafe("drop function orchestratum.claim; drop function orchestratum.finish");
    await tx.unsafe(newer).simple();
    await tx.unsafe(source("finish")).simple();
  });
  const before = worker.counts.succeeded;
  await eventually(
    () => worker.counts.succeeded,
    (count) => count > before + 100,
  );
  pushing = false;
  await pusher;
  await eventually(
    () => worker.counts.succeeded,
    (count) => count === 2 * pushed,
  );
  const [signature] = await database.sql`select pg_get_function_arguments('orchestratum.claim'::regproc) as arguments`;
  expect(signature?.arguments).toContain("hint text");
  expect(worker.counts).toMatchObject({ failed: 0, retried: 0 });
});

test("a worker takes up its work when the schema has come, and a push before says what is missing", async () => {
  const bare = await createDatabase({ migrated: false });
  const orchestrator = createOrchestrator({
    database: postgresJs(bare.sql),
    handlers: [job.handle(({ input }) => input)],
  });
  try {
    await expect(orchestrator.push(job(1))).rejects.toMatchObject({
      code: "ORCHESTRATUM_NOT_MIGRATED",
      message: expect.stringContaining("orchestrator.migrate()"),
    });
    const worker = orchestrator.startWorker();
    await orchestrator.migrate();
    await worker.started;
    const { id } = await orchestrator.push(job(1));
    expect(await orchestrator.waitFor(id, limited)).toMatchObject({ status: "succeeded" });
  } finally {
    await orchestrator.stop();
    await bare.drop();
  }
});

test("a worker does not start where statements run in another isolation, and says how to mend that", async () => {
  const name = new URL(database.url).pathname.slice(1);
  await database.sql.unsafe(`alter database ${name} set default_transaction_isolation = 'repeatable read'`);
  const sql = postgres(database.url, { onnotice: () => {} });
  const orchestrator = createOrchestrator({
    database: postgresJs(sql),
    handlers: [job.handle(({ input }) => input)],
    observe: (observation) => void observations.push(observation),
  });
  try {
    orchestrator.startWorker();
    const [trouble] = await eventually(
      () => seen("database_trouble"),
      (list) => list.length > 0,
    );
    expect(trouble?.error).toMatchObject({ message: expect.stringContaining('needs "read committed"') });
    expect(seen("worker_started")).toEqual([]);
  } finally {
    await orchestrator.stop();
    await sql.end();
  }
});

test("workers hear of new work again after the connection that listens was cut", async () => {
  const { orchestrator } = orchestrate([job.handle(({ input }) => input)]);
  await working(orchestrator);
  const producer = createOrchestrator({ database: postgresJs(database.sql), commands: [job] });
  await eventually(
    () => seen("listening"),
    (them) => them.some(({ proven }) => proven),
  );
  const killed: number[] = [];
  for (let turn = 0; turn < 3; turn++) {
    // The work of the turn before may have been found before there was a new connection.
    const cut = await eventually(
      () => database.sql<{ pid: number }[]>`
        select pid, pg_terminate_backend(pid) from pg_stat_activity
        where datname = current_database() and query ilike 'listen%' and pid <> all (${killed}::int[])`,
      (rows) => rows.length > 0,
    );
    killed.push(...cut.map(({ pid }) => pid));
    const { id } = await producer.push(job(turn));
    expect(await orchestrator.waitFor(id, limited)).toMatchObject({ status: "succeeded" });
  }
  await producer.stop();
});

test("stop() leaves no transaction and no listener behind", async () => {
  const sql = postgres(database.url, { max: 3, onnotice: () => {}, connection: { application_name: "to be gone" } });
  const orchestrator = createOrchestrator({ database: postgresJs(sql), handlers: [job.handle(({ input }) => input)] });
  const worker = orchestrator.startWorker();
  const { id } = await orchestrator.push(job(1));
  await orchestrator.waitFor(id, limited);
  await Promise.all([orchestrator.stop(), orchestrator.stop()]);
  expect([worker.isRunning, orchestrator.isRunning, orchestrator.workers]).toEqual([false, false, []]);
  const busy = () => database.sql`
    select state, query from pg_stat_activity where application_name = 'to be gone' and (state <> 'idle' or query ilike 'listen%')`;
  // What the server shows of a session may be older than its answer.
  await eventually(busy, (rows) => rows.length === 0);
  await sql.end();
  await eventually(
    () => database.sql`select from pg_stat_activity where application_name = 'to be gone'`,
    (rows) => rows.length === 0,
  );
});

test("stop() ends within its time though the database does not answer", async () => {
  const held = holdBack(calls("finish"));
  const { orchestrator } = orchestrate([job.handle(({ input }) => input)], held);
  const worker = await working(orchestrator);
  await orchestrator.push(job(1));
  await held.arrived;
  const begun = performance.now();
  await worker.stop({ graceMs: 100 });
  expect(performance.now() - begun).toBeLessThan(15_000);
  held.release();
});

test("more queues than a claim may look at are all served, without a poll", async () => {
  const queues = Array.from({ length: 25 }, (_, index) => `queue_${index}`);
  const { orchestrator } = orchestrate([job.handle(({ input }) => input)]);
  const early = await orchestrator.push(queues.map((queue, index) => job(index, { queue })));
  await working(orchestrator, { queues });
  for (const { id } of early) expect(await orchestrator.waitFor(id, limited)).toMatchObject({ status: "succeeded" });
  const late = await orchestrator.push(queues.map((queue, index) => job(index, { queue })));
  for (const { id } of late) expect(await orchestrator.waitFor(id, limited)).toMatchObject({ status: "succeeded" });
});

test("a payload that nobody could have meant does not stop a worker", async () => {
  const { orchestrator } = orchestrate([job.handle(({ input }) => input)]);
  await working(orchestrator);
  for (const payload of ["q default abc", "q default -1e300", "q default", "c", "f x", "", "zzz", "q default 1e300"]) {
    await database.sql`select pg_notify('orchestratum', ${payload})`;
  }
  const { id } = await orchestrator.push(job(1));
  expect(await orchestrator.waitFor(id, limited)).toMatchObject({ status: "succeeded" });
});

test("a worker that hears of a pause while it asks what is paused asks again before it claims", async () => {
  // Not before: whoever begins to hear asks, too.
  let isTold = false;
  const slow = holdReply(looksAtPauses, 1, () => isTold);
  const ran: number[] = [];
  const { driver, orchestrator } = orchestrate(
    [
      job.handle(({ input }) => {
        ran.push(input);
        return input;
      }),
    ],
    slow,
  );
  await working(orchestrator);
  const first = await orchestrator.push(job(1));
  await orchestrator.waitFor(first.id, limited);
  await orchestrator.pauseQueue("other");
  isTold = true;
  await orchestrator.pauseName("other"); // It is told, and asks: the answer is under way.
  await slow.arrived;
  await orchestrator.pauseQueue("default");
  const second = await orchestrator.push(job(2));
  const claims = driver.count(calls("claim"));
  const looks = driver.count(looksAtPauses);
  slow.release();
  await eventually(
    () => driver.count(looksAtPauses),
    (count) => count > looks,
  );
  expect(driver.count(calls("claim"))).toBe(claims);
  await orchestrator.resumeQueue("default");
  await orchestrator.waitFor(second.id, limited);
  expect(ran).toEqual([1, 2]);
});
