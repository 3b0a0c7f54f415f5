import { beforeEach, expect, test } from "vitest";
import { percentilesMs } from "../../src/percentile.ts";
import { queries } from "../../src/sql.generated.ts";
import { Session, time, useSessions } from "./session.ts";

const sessions = useSessions();

const minuteMs = 60_000;
const hourMs = 60 * minuteMs;

interface Step {
  folded: number;
  more: boolean;
  later: boolean;
}

const fold = (session: Session, at: string, { lagMs = 0, maxRows = 50_000 } = {}): Promise<Step> =>
  session.row<Step>(
    "select f.folded, f.more, f.later from orchestratum.fold_history($1::int, $2::int, $3::text::timestamptz) f",
    [lagMs, maxRows, at],
  );

interface Ended {
  readonly at: string;
  readonly name?: string;
  readonly queue?: string;
  readonly hook?: "failure";
  readonly status?: string;
  readonly worker?: string;
  readonly waitedMs?: number;
  readonly ranMs?: number;
}

/** A finished command, or `count` of them, as a finish records it. */
async function ended(session: Session, given: Ended, count = 1): Promise<void> {
  const { at, name = "work", queue = "q", hook = null, status = "succeeded", worker = "w" } = given;
  await session.rows(
    `insert into orchestratum.history (
      slot, id, name, version, hook, queue, priority, status, due_at, fence, attempt, max_attempts, losses, timeout_ms,
      worker, started_at, finished_at, created_at
    )
    select
      case when $4::text = 'succeeded' then 3 else 19 end, gen_random_uuid(), $2::text, 1, $6::text, $3::text, 5, $4::text,
      t.at - ($8::float8 + $7::float8) * interval '1 millisecond', 1, 1, 4, 0, 60000,
      $5::text, t.at - $8::float8 * interval '1 millisecond', t.at, t.at
    from (select $1::text::timestamptz as at) t
    cross join generate_series(1, $9::int)`,
    [at, name, queue, status, worker, hook, given.waitedMs ?? 10, given.ranMs ?? 100, count],
  );
}

const counted = (session: Session, span = 5): Promise<number> =>
  session
    .row<{ count: number }>(
      "select coalesce(sum(s.count), 0)::int as count from orchestratum.statistic s where s.span = $1::int",
      [span],
    )
    .then(({ count }) => count);

const finishedRows = (session: Session): Promise<number> =>
  session.row<{ count: number }>("select count(*)::int as count from orchestratum.history").then(({ count }) => count);

beforeEach(async () => {
  const { one } = sessions;
  await one.rows("truncate orchestratum.history, orchestratum.statistic, orchestratum.statistic_worker");
  await one.rows("update orchestratum.statistic_fold set folded_until = null");
});

test("fold_history() counts by five minutes and by hours, by queue, name, hook and status", async () => {
  const { one } = sessions;
  await ended(one, { at: time(0) }, 2);
  await ended(one, { at: time(5 * minuteMs - 1) });
  await ended(one, { at: time(5 * minuteMs) });
  await ended(one, { at: time(minuteMs), status: "failed" });
  await ended(one, { at: time(minuteMs), hook: "failure" });
  await ended(one, { at: time(minuteMs), queue: "r", name: "other" });
  expect(await fold(one, time(10 * minuteMs))).toEqual({ folded: 7, more: false, later: false });
  const rows = await one.rows(
    `select
      s.span, (extract(epoch from s.started_at - '2025-01-01 00:00:00+00') * 1000)::int as at, s.queue, s.name, s.hook, s.status,
      s.count::int, s.waiting_ms, s.execution_ms
    from orchestratum.statistic s
    order by s.span, s.started_at, s.queue collate "C", s.hook collate "C", s.status collate "C"`,
  );
  const row = (span: number, at: number, count: number, other: object = {}) => ({
    ...{ span, at, queue: "q", name: "work", hook: "", status: "succeeded", count },
    ...{ waiting_ms: 10 * count, execution_ms: 100 * count, ...other },
  });
  const others = (span: number) => [
    row(span, 0, 1, { hook: "failure" }),
    row(span, 0, 1, { queue: "r", name: "other" }),
  ];
  expect(rows).toEqual([
    row(5, 0, 1, { status: "failed" }),
    row(5, 0, 3),
    ...others(5),
    row(5, 5 * minuteMs, 1),
    row(60, 0, 1, { status: "failed" }),
    row(60, 0, 4),
    ...others(60),
  ]);
});

test("fold_history() adds to what it has counted before", async () => {
  const { one } = sessions;
  for (const [waitedMs, ranMs] of [
    [0, 4],
    [0, 4],
    [8, 4],
  ] as const) {
    await ended(one, { at: time(waitedMs + ranMs), waitedMs, ranMs });
    await fold(one, time(waitedMs + ranMs + 1));
  }
  const rows = await one.rows(
    `select s.count::int, s.waiting_ms, s.execution_ms, s.waiting::text, s.execution::text
    from orchestratum.statistic s
    where s.span = 5`,
  );
  // 4 ms are 4 * log2(4000) = 47.9, 8 ms one octave more: four buckets. What did not wait is in bucket 0.
  expect(rows).toEqual([
    // The second is folded over the first's time: it came too late, and is not counted.
    { count: 2, waiting_ms: 8, execution_ms: 8, waiting: '{"0": 1, "51": 1}', execution: '{"47": 2}' },
  ]);
});

test("fold_history() counts what ended before its bound and leaves what ended at it", async () => {
  const { one } = sessions;
  await ended(one, { at: time(0) });
  await ended(one, { at: time(1_000) });
  await ended(one, { at: time(1_000, 1) });
  expect(await fold(one, time(61_000), { lagMs: 60_000 })).toEqual({ folded: 1, more: false, later: true });
  expect(await fold(one, time(61_000), { lagMs: 60_000 })).toEqual({ folded: 0, more: false, later: true });
  expect(await fold(one, time(61_000, 1), { lagMs: 60_000 })).toEqual({ folded: 1, more: false, later: true });
  expect(await fold(one, time(62_000), { lagMs: 60_000 })).toEqual({ folded: 1, more: false, later: false });
  // An earlier clock takes nothing back.
  expect(await fold(one, time(0))).toMatchObject({ folded: 0, more: false });
  expect([await counted(one), await counted(one, 60)]).toEqual([3, 3]);
});

test("fold_history() goes in steps that never divide what ended at one time", async () => {
  const { one } = sessions;
  for (const [at, count] of [
    [1, 3],
    [2, 4],
    [3, 25],
    [4, 1],
  ] as const) {
    await ended(one, { at: time(at) }, count);
  }
  const steps = [];
  for (let more = true; more; ) {
    const step = await fold(one, time(10), { maxRows: 5 });
    steps.push(step.folded);
    more = step.more;
  }
  expect(steps).toEqual([3, 4, 25, 1]);
  expect([await counted(one), await counted(one, 60)]).toEqual([33, 33]);
});

test("fold_history() counts each command once when two fold at once", async () => {
  const { one, two } = sessions;
  await ended(one, { at: time(1) }, 3);
  await two.begin();
  expect(await fold(two, time(10))).toMatchObject({ folded: 3 });
  // It does not wait, either.
  expect(await fold(one, time(10))).toEqual({ folded: 0, more: false, later: true });
  await two.commit();
  await ended(one, { at: time(10) }, 2);
  expect(await fold(one, time(20))).toEqual({ folded: 2, more: false, later: false });
  expect([await counted(one), await counted(one, 60)]).toEqual([5, 5]);
});

test("fold_history() counts each command once whoever folds, in steps", async () => {
  const { one, two, three } = sessions;
  for (let at = 0; at < 200; at += 1) await ended(one, { at: time(at * 10_000) }, 1 + (at % 7));
  const total = await finishedRows(one);
  let folded = 0;
  await Promise.all(
    [one, two, three].map(async (session) => {
      for (;;) {
        const step = await fold(session, time(hourMs), { maxRows: 10 });
        folded += step.folded;
        // Who found it locked looks again.
        if (!step.more && !step.later) break;
      }
    }),
  );
  expect([folded, await counted(one), await counted(one, 60)]).toEqual([total, total, total]);
});

test("fold_history() that is rolled back has counted nothing, and the next counts all", async () => {
  const { one, two } = sessions;
  await ended(one, { at: time(1) }, 3);
  await two.begin();
  await fold(two, time(10));
  await two.rollback();
  expect(await counted(one)).toBe(0);
  expect(await fold(one, time(10))).toMatchObject({ folded: 3 });
  expect(await counted(one)).toBe(3);
});

test("fold_history() counts what a transaction committed later than its time, within the lag", async () => {
  const { one, two } = sessions;
  await two.begin();
  await ended(two, { at: time(1_000) });
  await ended(one, { at: time(2_000) });
  expect(await fold(one, time(30_000), { lagMs: 30_000 })).toEqual({ folded: 0, more: false, later: true });
  await two.commit();
  expect(await fold(one, time(32_001), { lagMs: 30_000 })).toEqual({ folded: 2, more: false, later: false });
});

test("fold_history() begins a day back, and removes what nobody is told of any more", async () => {
  const { one } = sessions;
  await ended(one, { at: time(0) });
  await ended(one, { at: time(1) });
  expect(await fold(one, time(24 * hourMs + 1))).toEqual({ folded: 1, more: false, later: false });
  expect(await counted(one)).toBe(1);
  await fold(one, time(25 * hourMs));
  expect([await counted(one), await counted(one, 60)]).toEqual([1, 1]);
  await fold(one, time(25 * hourMs + 1));
  expect([await counted(one), await counted(one, 60)]).toEqual([0, 0]);
  expect(await one.rows("select from orchestratum.statistic_worker")).toEqual([]);
});

test("fold_history() goes no further than the server's clock, whatever the caller's", async () => {
  const { one } = sessions;
  await fold(one, "2999-01-01T00:00:00Z", { lagMs: 60_000 });
  const { behind } = await one.row<{ behind: number }>(
    "select extract(epoch from clock_timestamp() - f.folded_until)::float8 as behind from orchestratum.statistic_fold f",
  );
  expect(behind).toBeGreaterThanOrEqual(60);
  expect(behind).toBeLessThan(120);
});

test("fold_history() refuses a transaction that would not see what is committed meanwhile", async () => {
  const { one } = sessions;
  await one.rows("begin isolation level repeatable read");
  await expect(fold(one, time(0))).rejects.toMatchObject({ code: "25000" });
});

test("fold_history() takes times of what a handler came to an end with, and none of a canceller's", async () => {
  const { one } = sessions;
  for (const status of ["succeeded", "failed", "timed_out", "cancelled", "not_found"]) {
    await ended(one, { at: time(1), status, worker: status === "cancelled" ? "cancel" : "w" });
  }
  await fold(one, time(2));
  const rows = await one.rows(
    `select s.status, s.count::int, s.waiting_ms, s.execution_ms, s.waiting <> '{}' as waiting, s.execution <> '{}' as execution
    from orchestratum.statistic s
    where s.span = 5
    order by s.status collate "C"`,
  );
  const timed = { count: 1, waiting_ms: 10, execution_ms: 100, waiting: true, execution: true };
  const untimed = { count: 1, waiting_ms: 0, execution_ms: 0, waiting: false, execution: false };
  expect(rows).toEqual([
    { status: "cancelled", ...untimed },
    { status: "failed", ...timed },
    { status: "not_found", ...untimed },
    { status: "succeeded", ...timed },
    { status: "timed_out", ...timed },
  ]);
  const workers = await one.rows(
    `select
      w.worker, w.status, w.count::int, w.executed::int, w.waiting_ms, w.execution_ms, w.waiting <> '{}' as waiting, w.execution <> '{}' as execution
    from orchestratum.statistic_worker w
    where w.span = 60
    order by w.status collate "C"`,
  );
  expect(workers).toEqual([
    { worker: "w", status: "failed", executed: 1, ...timed },
    { worker: "w", status: "not_found", executed: 0, ...untimed },
    { worker: "w", status: "succeeded", executed: 1, ...timed },
    { worker: "w", status: "timed_out", executed: 1, ...timed },
  ]);
});

interface StatsRow {
  since_ms: number;
  until_ms: number;
  past: string;
  waiting: string;
  execution: string;
}

test(
  "fold_history() reads by the index however many have finished, and stats counts each of a day once, by any hours",
  async () => {
    const { url } = sessions;
    await using session = await Session.open({ url });
    // The plans of the empty table are kept.
    await session.rows("analyze orchestratum.history");
    const step = "select f.folded, f.more from orchestratum.fold_history(0, 100) f";
    for (let time = 0; time < 10; time += 1) await session.rows(step);
    await session.rows("update orchestratum.statistic_fold set folded_until = null");

    // Over 26 hours up to now, in all slots, waiting and running for times that are spread over many octaves.
    const total = 100_000;
    await session.rows(`
      insert into orchestratum.history (
        slot, id, name, version, queue, priority, status, due_at, fence, attempt, max_attempts, losses, timeout_ms,
        worker, started_at, finished_at, created_at
      )
      select
        n % 32, gen_random_uuid(), 'work', 1, 'q', 5, case when n % 32 < 16 then 'succeeded' else 'failed' end,
        t.at - r.ms * interval '1 millisecond' - w.ms * interval '1 millisecond', 1, 1, 4, 0, 60000, 'w',
        t.at - r.ms * interval '1 millisecond', t.at, t.at
      from generate_series(1, ${total}) n
      cross join lateral (select clock.at - n * interval '26 hours' / ${total} as at from (select now() as at) clock) t
      cross join lateral (select exp(hashint4(n) % 1000 / 200.0 + 2) as ms) w
      cross join lateral (select exp(hashint4(-n) % 1000 / 300.0) as ms) r`);

    // Once by the plans of the empty table, and once by those that are made of it now, by what is known of an empty one.
    const touched: number[] = [];
    for (const before of [[], ["discard plans", step]]) {
      for (const text of before) await session.rows(text);
      // Whatever other databases' DDL makes the server forget is read again, and counts: the least of three.
      const each: number[] = [];
      for (let time = 0; time < 3; time += 1) {
        each.push((await session.explain(step)).pages);
      }
      touched.push(Math.min(...each));
    }
    const { pages } = await session.row<{ pages: number }>(
      `select sum(pg_relation_size(i.indexrelid))::int / 8192 as pages
      from pg_index i
      where i.indrelid::regclass::text like 'orchestratum.history\\__%' and not i.indisprimary`,
    );
    // A hundred by the index of times, their rows, and three probes of each slot: less than the whole index once.
    expect(pages).toBeGreaterThan(500);
    expect(touched.filter((each) => each >= pages)).toEqual([]);

    for (let more = true; more; ) {
      more = (await session.row<Step>("select f.more from orchestratum.fold_history(0, 20000) f")).more;
    }

    const stats = await session.row<StatsRow>(queries.stats, [false]);
    const exact = await session.row<{
      count: number;
      workers: number;
      waiting: number;
      execution: number;
      w50: number;
      w95: number;
      w99: number;
      e50: number;
      e95: number;
      e99: number;
    }>(
      `select
        count(*)::int as count, sum(m.waiting) as waiting, sum(m.execution) as execution,
        percentile_disc(0.5) within group (order by m.waiting) as w50, percentile_disc(0.95) within group (order by m.waiting) as w95,
        percentile_disc(0.99) within group (order by m.waiting) as w99, percentile_disc(0.5) within group (order by m.execution) as e50,
        percentile_disc(0.95) within group (order by m.execution) as e95, percentile_disc(0.99) within group (order by m.execution) as e99
      from orchestratum.history h
      cross join lateral (
        select
          date_part('epoch', h.started_at - h.due_at) * 1000 as waiting,
          date_part('epoch', h.finished_at - h.started_at) * 1000 as execution
      ) m
      where h.finished_at >= to_timestamp($1::float8 / 1000)`,
      [stats.since_ms],
    );
    expect(exact.count).toBeGreaterThan((total * 23.8) / 26);
    // Of queues and names, and of workers: there is one of each.
    for (const isOf of [(worker: string | null) => worker === null, (worker: string | null) => worker !== null]) {
      const past = (
        JSON.parse(stats.past) as { worker: string | null; count: number; waiting_ms: number; execution_ms: number }[]
      ).filter(({ worker }) => isOf(worker));
      const sum = (of: "count" | "waiting_ms" | "execution_ms") => past.reduce((all, one) => all + one[of], 0);
      expect(sum("count")).toBe(exact.count);
      expect(sum("waiting_ms")).toBeCloseTo(exact.waiting, 0);
      expect(sum("execution_ms")).toBeCloseTo(exact.execution, 0);
    }

    const bucket = 2 ** (1 / 4);
    for (const [json, wanted] of [
      [stats.waiting, [exact.w50, exact.w95, exact.w99]],
      [stats.execution, [exact.e50, exact.e95, exact.e99]],
    ] as const) {
      const histograms = JSON.parse(json) as { worker: string | null; histogram: Record<string, number> }[];
      expect(histograms.map(({ worker }) => worker).toSorted()).toEqual([null, "w"].toSorted());
      for (const { histogram } of histograms) {
        const got = percentilesMs(
          new Map(Object.entries(histogram).map(([key, count]) => [Number(key), count])),
          [0.5, 0.95, 0.99],
        );
        got.forEach((ms, place) => {
          const ratio = ms / (wanted[place] ?? 0);
          expect(ratio).toBeGreaterThan(1 / bucket);
          expect(ratio).toBeLessThan(bucket);
        });
      }
    }
  },
  2 * minuteMs,
);

test("stats reads live commands once and sorts nothing, whatever the planner was told of an empty table", async () => {
  const { url } = sessions;
  await using session = await Session.open({ url });
  await session.rows("alter table orchestratum.command set (autovacuum_enabled = off)");
  await session.rows("analyze orchestratum.command");
  const text = queries.stats.replaceAll("$1::boolean", "false");
  for (let time = 0; time < 6; time += 1) await session.rows(text);
  await session.rows(`
    insert into orchestratum.command (
      id, name, version, queue, priority, due_at, available_at, max_attempts, timeout_ms, leased_by, hook, created_at
    )
    select
      gen_random_uuid(), 'live' || n % 20, 1, 'live' || n % 3, n % 10, to_timestamp(n), now() + (n % 2 * 2 - 1) * interval '1 hour', 4, 60000,
      case when n % 4 = 3 then 'w' || n % 5 end, case when n % 100 = 0 then 'failure' end, now()
    from generate_series(1, 50000) n`);
  const explained = await session.explain(text);
  const { pages } = await session.row<{ pages: number }>(
    "select pg_relation_size('orchestratum.command')::int / 8192 as pages",
  );
  expect(pages).toBeGreaterThan(500);
  expect(explained.pages).toBeLessThan(2 * pages);
  expect(explained.filePages).toBe(0);

  const live = JSON.parse((await session.row<{ live: string }>(queries.stats, [false])).live) as {
    status: string;
    worker: string | null;
    count: number;
    oldest_due_ms: number;
  }[];
  const count = (status: string): number =>
    live.filter((one) => one.status === status).reduce((sum, one) => sum + one.count, 0);
  expect([count("pending"), count("scheduled"), count("running")]).toEqual([24_500, 12_500, 12_500]);
  expect(live.every(({ status, worker }) => (status === "running") === (worker !== null))).toBe(true);
  expect(Math.min(...live.filter(({ status }) => status === "pending").map((one) => one.oldest_due_ms))).toBe(2_000);
  await session.rows("truncate orchestratum.command");
}, 60_000);
