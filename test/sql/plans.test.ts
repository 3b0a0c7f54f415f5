/**
 * A worker idles on an empty table, caches its plans there, and keeps them when a million rows arrive.
 *
 * One session prepares the hot statements on the analysed empty tables and executes each ten times, after which their
 * plans are cached, also those inside the functions. Then come a million live and a million finished commands, and later
 * a million that are scheduled; nothing that happens in between invalidates a plan: autovacuum is off, and the server is
 * one of their own, since other databases' DDL can overflow the queue of invalidations, which empties every cache.
 * What a statement costs then is told by the pages it touches, whatever the machine: some dozens a row where rows are
 * found by an index, and thousands where one whole index or table is read, be it once.
 */

import { afterAll, beforeAll, expect, test } from "vitest";
import { postgresJs } from "../../adapters/postgres-js.ts";
import { migrate } from "../../src/migrate.ts";
import { queries } from "../../src/sql.generated.ts";
import { type Postgres, startPostgres } from "../postgres.ts";
import { execution, Session } from "./session.ts";

/** How many commands each statement gets. Few: reading an index of a million once must not hide among them. */
const batch = 10;

/** For each command: by the primary key, the two indexes of the row and its new version. */
const pagesLive = 100;

/** The reading of all live commands that erase() does once a call, for hook commands that live; its header says why. */
const pagesOfOneRead = 30_000;

/** For each command: in each of the 32 slots of history, too, perhaps twice. */
const pagesWithHistory = 300;

/** The smallest index of a million rows: what a plan reads that finds nothing by its conditions. */
const smallestIndexPages = 3_500;

const million = 1_000_000;
const minutes = 60_000;

const hot = [
  "pushBatch",
  "claim",
  "heartbeat",
  "finish",
  "finishWithin",
  "cancel",
  "confirm",
  "giveBack",
  "nextDue",
  "waitFor",
  "get",
  "progress",
  "explain",
  "retry",
  "amend",
  "erase",
  "list",
] as const;
type Hot = (typeof hot)[number];

let server: Postgres;
let session: Session;
let loader: Session;

const id = (prefix: string, n: number): string => `${prefix}0000000-0000-7000-8000-${n.toString(16).padStart(12, "0")}`;

let taken = 0;
/** Ids of these that no other test has: commands waiting (a), finished (b), unknown (c). */
const ids = (prefix: string, count = batch): string[] =>
  Array.from({ length: count }, () => {
    taken += 1;
    // A prime: none comes twice, and what claims take first lies elsewhere.
    return id(prefix, ((taken * 7_919) % million) + 1);
  });

const queues = ["queue_0", "queue_1", "queue_2", "queue_3", "queue_4"];
const lanes = queues.flatMap((queue) => [0, 5].map((priority) => ({ queue, priority, mark_at: "-infinity" })));

const claimParams = (given: readonly object[] = lanes): unknown[] => ["worker", given, batch, 8_000_000, 30_000, 3];

/** Leases from a lane that no other test claims from. */
async function leases(priority: number): Promise<{ id: string; fence: number }[]> {
  const { commands } = await session.claim([{ queue: "queue_0", priority }], { maxCount: batch });
  expect(commands).toHaveLength(batch);
  return commands.map((command) => ({ id: command.id, fence: command.fence }));
}

beforeAll(async () => {
  server = await startPostgres({ autovacuum: "off" });
  {
    await using database = postgresJs(server.url);
    await migrate(database);
  }
  session = await Session.open(server);
  loader = await Session.open(server);
  await loader.rows("analyze orchestratum.command, orchestratum.history");

  for (const statement of hot) await session.rows(`prepare hot_${statement} as ${queries[statement]}`);
  const nobody = ids("c").map((unknown) => ({ id: unknown, fence: 1, verdict: "succeeded" }));
  const onEmpty: [Hot, unknown[]][] = [
    ["pushBatch", ["[]", false]],
    ["pushBatch", ["[]", true]],
    ["claim", claimParams()],
    ["heartbeat", ["worker", nobody, 30_000]],
    ["finish", ["worker", nobody]],
    ["finishWithin", ["worker", nobody.slice(0, 1)]],
    ["cancel", [nobody.map((command) => command.id)]],
    ["confirm", ["worker", nobody]],
    ["giveBack", ["worker", lanes, nobody, 30_000]],
    ["nextDue", [queues, "2025-01-01T00:00:00Z"]],
    ["waitFor", [nobody.map((command) => command.id)]],
    ["get", [nobody.map((command) => command.id)]],
    ["progress", [nobody.map((command) => command.id)]],
    ["explain", [id("c", 1)]],
    ["retry", [nobody.map((command) => command.id), null, null, null]],
    ["amend", [nobody.map((command) => command.id), { priority: 5 }, "reprioritise", null]],
    ["erase", [nobody.map((command) => command.id), null]],
    ["list", [{ statuses: ["running"], queue: "far", hooks: false }, null, 101, null]],
  ];
  for (let time = 0; time < 10; time += 1) {
    for (const [statement, params] of onEmpty) await session.rows(execution(statement, params));
  }

  await loader.rows(`
    insert into orchestratum.command (
      id, name, version, queue, priority, due_at, available_at, max_attempts, timeout_ms, input, created_at
    )
    select
      ('a0000000-0000-7000-8000-' || lpad(to_hex(n), 12, '0'))::uuid, 'work', 1, 'queue_' || n % 5, n / 5 % 10, now(),
      now() - interval '1 hour' + n * interval '1 microsecond', 4, 60000, '{"a": 1}', now()
    from generate_series(1, ${million}) n`);
  await loader.rows(`
    insert into orchestratum.history (
      slot, id, name, version, queue, priority, status, due_at, fence, attempt, max_attempts, losses, timeout_ms, worker,
      finished_at, input, created_at
    )
    select
      n % 32, ('b0000000-0000-7000-8000-' || lpad(to_hex(n), 12, '0'))::uuid, 'work', 1, 'queue_0', 5,
      case when n % 32 < 16 then 'succeeded' else 'failed' end, now(), 1, 1, 4, 0, 60000, 'worker',
      now() - interval '1 hour' + n * interval '1 microsecond', '{"a": 1}', now()
    from generate_series(1, ${million}) n`);
}, 5 * minutes);

afterAll(async () => {
  await session[Symbol.asyncDispose]();
  await loader[Symbol.asyncDispose]();
  await server.stop();
});

const work = (known: readonly string[]): object[] =>
  known.map((command) => ({ id: command, name: "work", queue: "queue_0", input: { a: 1 } }));

/** Each with what it costs for a batch, and how many rows it must answer, so that none is measured at doing nothing. */
const statements: [string, Hot, number, number, () => unknown[] | Promise<unknown[]>][] = [
  ["push_batch()", "pushBatch", pagesLive, batch, () => [work(ids("c")), false]],
  ["push_batch() repeated, of what is new", "pushBatch", pagesWithHistory, batch, () => [work(ids("c")), true]],
  ["push_batch() repeated, of what is live", "pushBatch", pagesWithHistory, 0, () => [work(ids("a")), true]],
  ["push_batch() repeated, of what has finished", "pushBatch", pagesWithHistory, 0, () => [work(ids("b")), true]],
  ["claim()", "claim", pagesLive, batch + 1, () => claimParams()],
  ["heartbeat()", "heartbeat", pagesLive, batch, async () => ["worker", await leases(1), 30_000]],
  // What is not accepted would be named.
  [
    "finish() of what succeeded",
    "finish",
    pagesLive,
    0,
    async () => ["worker", (await leases(2)).map((lease) => ({ ...lease, verdict: "succeeded", output: 1 }))],
  ],
  [
    "finish() of what failed",
    "finish",
    pagesLive,
    0,
    async () => ["worker", (await leases(3)).map((lease) => ({ ...lease, verdict: "failed", error: {} }))],
  ],
  [
    "finish() of what is to be tried again",
    "finish",
    pagesLive,
    1,
    async () => ["worker", (await leases(4)).map((lease) => ({ ...lease, verdict: "retry", delay_ms: 60_000 }))],
  ],
  [
    "finish() of what is lost",
    "finish",
    pagesLive,
    2 * batch,
    () => ["worker", [...ids("a"), ...ids("b")].map((command) => ({ id: command, fence: 1, verdict: "succeeded" }))],
  ],
  [
    "finish_within()",
    "finishWithin",
    pagesLive,
    1,
    async () => [
      "worker",
      (await leases(7)).slice(0, 1).map((lease) => ({ ...lease, verdict: "succeeded", output: 1 })),
    ],
  ],
  ["cancel() of what waits", "cancel", pagesWithHistory, batch, () => [ids("a")]],
  ["cancel() of what has finished", "cancel", pagesWithHistory, batch, () => [ids("b")]],
  [
    "confirm()",
    "confirm",
    pagesWithHistory,
    3 * batch,
    () => ["worker", [...ids("a"), ...ids("b"), ...ids("c")].map((command) => ({ id: command, fence: 1 }))],
  ],
  [
    "give_back()",
    "giveBack",
    pagesLive,
    1,
    async () => {
      await leases(6);
      return ["worker", [{ queue: "queue_0", priority: 6 }], [], 30_000];
    },
  ],
  ["next_due()", "nextDue", pagesLive, 1, () => [queues, "2025-01-01T00:00:00Z"]],
  ["wait_for()", "waitFor", pagesWithHistory, 3 * batch, () => [[...ids("a"), ...ids("b"), ...ids("c")]]],
  ["retry()", "retry", pagesWithHistory, 2 * batch + 1, () => [[...ids("b"), ...ids("a")], null, "ada", null]],
  ["retry() of what is not there", "retry", pagesWithHistory, batch, () => [ids("c"), null, null, null]],
  ["amend()", "amend", pagesLive, batch + 5, () => [ids("a"), { delay_ms: 60_000 }, "reschedule", null]],
  ["amend() of an input", "amend", pagesLive, batch + 5, () => [ids("a"), { input: { b: 2 } }, "edit", "ada"]],
  ["amend() of what has finished", "amend", pagesWithHistory, batch, () => [ids("b"), { priority: 1 }, "edit", null]],
  ["get()", "get", pagesWithHistory, 2 * batch, () => [[...ids("a"), ...ids("b"), ...ids("c")]]],
  ["progress()", "progress", pagesWithHistory, 2 * batch, () => [[...ids("a"), ...ids("b"), ...ids("c")]]],
  // Few come before it: those are counted.
  ["explain() of what waits", "explain", pagesLive, 1, () => [id("a", 150)]],
  ["explain() of what has finished", "explain", pagesLive, 1, () => [id("b", 150)]],
];

/** `pagesEach` for each command of the largest batch that still tells a whole index from a batch. */
function expectFew(pages: number, pagesEach: number): void {
  expect(pagesEach * batch).toBeLessThan(smallestIndexPages);
  expect(pages).toBeLessThan(pagesEach * batch);
}

test.each(statements)(
  "%s touches few pages by a plan of the empty table",
  async (_, statement, pagesEach, rows, params) => {
    const explained = await session.explain(execution(statement, await params()));
    expect(explained.rows).toBe(rows);
    expectFew(explained.pages, pagesEach);
  },
  2 * minutes,
);

test(
  "erase() touches few pages in history by a plan of the empty table, and reads what lives once",
  async () => {
    const one = await session.explain(execution("erase", [ids("b", 1), null]));
    const many = await session.explain(execution("erase", [ids("b"), null]));
    expect([one.rows, many.rows]).toEqual([1, batch]);
    expect(many.pages).toBeLessThan(pagesOfOneRead + batch * pagesWithHistory);
    expectFew(many.pages - one.pages, pagesWithHistory);
  },
  2 * minutes,
);

test.each(["succeeded", "failed"])(
  "list() of what %s up to a time in the middle of history touches few pages by a plan of the empty table",
  async (status) => {
    const { at } = await loader.row<{ at: string }>(
      "select finished_at::text as at from orchestratum.history where id = $1::text::uuid",
      [id("b", million / 2)],
    );
    const whole = { statuses: [status], from: "2025-01-01T00:00:00Z", to: at, hooks: false };
    const listed = await session.explain(execution("list", [whole, null, 101, null]));
    expect(listed.rows).toBe(101);
    expectFew(listed.pages, pagesWithHistory);
    // Nothing ended then.
    const none = await session.explain(execution("list", [{ ...whole, from: at }, null, 101, null]));
    expect(none.rows).toBe(0);
    expectFew(none.pages, pagesWithHistory);
  },
  2 * minutes,
);

test("the smallest index is as large as these tests take it to be", async () => {
  const { pages } = await loader.row<{ pages: number }>(`
    select least(
      pg_relation_size('orchestratum.command_pkey'),
      pg_relation_size('orchestratum.command_claim'),
      (
        select sum(pg_relation_size(i.indexrelid))
        from pg_index i
        where i.indrelid::regclass::text like 'orchestratum.history\\__%' and i.indisprimary
      )
    )::int / 8192 as pages`);
  expect(pages).toBeGreaterThan(smallestIndexPages);
});

test(
  "a million that are scheduled in the same lanes cost a claim and its questions nothing",
  async () => {
    await loader.rows(`
    insert into orchestratum.command (
      id, name, version, queue, priority, due_at, available_at, max_attempts, timeout_ms, created_at
    )
    select
      ('d0000000-0000-7000-8000-' || lpad(to_hex(n), 12, '0'))::uuid, 'work', 1,
      case when n % 2 = 0 then 'queue_' || n / 2 % 5 else 'later' end, n / 10 % 10, now() + interval '1 day',
      now() + interval '1 day' + n * interval '1 microsecond', 4, 60000, now()
    from generate_series(1, ${million}) n`);

    const claim = await session.explain(execution("claim", claimParams()));
    expect(claim.rows).toBe(batch + 1);
    expectFew(claim.pages, pagesLive);

    const later = lanes.map(({ priority }) => ({ queue: "later", priority, mark_at: "-infinity" }));
    const nothing = await session.explain(execution("claim", claimParams(later)));
    expect(nothing.rows).toBe(1);
    expectFew(nothing.pages, pagesLive);
    expect((await session.claim(later)).more).toBe(false);

    expectFew((await session.explain(execution("nextDue", [["later"], new Date().toISOString()]))).pages, pagesLive);
    expectFew((await session.explain(execution("giveBack", ["worker", later, [], 30_000]))).pages, pagesLive);

    // Nor do they cost a list of what runs, where they are further away than any lease is long.
    await loader.rows(`
      insert into orchestratum.command (
        id, name, version, queue, priority, due_at, available_at, max_attempts, timeout_ms, created_at
      )
      select
        ('e0000000-0000-7000-8000-' || lpad(to_hex(n), 12, '0'))::uuid, 'work', 1, 'far', 5, now() + interval '2 days',
        now() + interval '2 days' + n * interval '1 microsecond', 4, 60000, now()
      from generate_series(1, 200000) n`);
    const filter = { statuses: ["running"], queue: "far", hooks: false };
    const listed = await session.explain(execution("list", [filter, null, 101, null]));
    expect(listed.rows).toBe(0);
    expectFew(listed.pages, pagesLive);
  },
  2 * minutes,
);
