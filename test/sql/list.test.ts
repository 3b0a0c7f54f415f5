/** Lists, timelines and trees as SQL: pages over ties, while rows move, and plans that a session made on empty tables. */

import { expect, test } from "vitest";
import { queries } from "../../src/sql.generated.ts";
import { execution, newId, type Session, time, useSessions } from "./session.ts";

const sessions = useSessions();

const all = ["scheduled", "pending", "running", "succeeded", "failed", "cancelled", "timed_out", "not_found"];

interface Row {
  readonly id: string;
  readonly queue: string;
  readonly priority: number;
  readonly available_at: string | null;
  readonly finished_at: string | null;
}

async function page(
  session: Session,
  filter: object,
  after: Row | undefined,
  limit: number,
  before: string | null = null,
) {
  const place =
    after === undefined
      ? null
      : after.finished_at === null
        ? { queue: after.queue, priority: after.priority, available_at: after.available_at, id: after.id }
        : { finished_at: after.finished_at, id: after.id };
  const given = JSON.stringify({ statuses: all, hooks: false, ...filter });
  return await session.rows<Row>(queries.list, [given, place && JSON.stringify(place), limit, before]);
}

async function pages(session: Session, filter: object, limit: number): Promise<string[]> {
  const ids: string[] = [];
  for (let last: Row | undefined; ; ) {
    const rows = await page(session, filter, last, limit);
    ids.push(...rows.map(({ id }) => id));
    last = rows.at(-1);
    if (rows.length < limit) return ids;
  }
}

const historyRows = (from: number, to: number, columns = "null::uuid, null::json"): string => `
  insert into orchestratum.history (
    slot, id, name, version, queue, priority, status, due_at, fence, attempt, max_attempts, losses, timeout_ms, finished_at, created_at,
    parent_id, metadata
  )
  select
    n % 32, ('b0000000-0000-7000-8000-' || lpad(to_hex(n), 12, '0'))::uuid, 'work', 1, 'past', 5,
    case when n % 32 < 16 then 'succeeded' else 'failed' end, now(), 1, 1, 4, 0, 60000,
    timestamptz '2025-01-01' + n / 10 * interval '1 second', now(), ${columns}
  from generate_series(${from}, ${to}) n`;

test("list() pages over ties without losing or repeating any, whatever the size of a page", async () => {
  const { one } = sessions;
  await one.rows(historyRows(1, 200));
  await one.rows(`
    insert into orchestratum.command (id, name, version, queue, priority, due_at, available_at, max_attempts, timeout_ms, created_at)
    select gen_random_uuid(), 'work', 1, 'live_' || n % 3, n % 2, now(), timestamptz '2025-01-01' + n / 20 * interval '1 second', 4, 60000, now()
    from generate_series(1, 100) n`);
  const expected = await pages(one, {}, 1_000);
  expect(new Set(expected).size).toBe(300);
  for (const limit of [1, 7, 100]) expect(await pages(one, {}, limit)).toEqual(expected);
  expect(await pages(one, { statuses: ["failed"] }, 9)).toHaveLength(96);
  expect(await pages(one, { statuses: ["pending"], queue: "live_1" }, 5)).toHaveLength(34);
});

test("list() tells a command that ends between two pages, and shifts nothing by it", async () => {
  const { one, newQueue } = sessions;
  const queue = newQueue();
  const pushed = await one.push(Array.from({ length: 6 }, () => ({ queue })));
  const filter = { queue, from: time(0) };
  const first = await page(one, filter, undefined, 2);
  const { commands } = await one.claim(queue, { maxCount: 4 });
  await one.finish(
    "worker",
    commands.map(({ id, fence }) => ({ id, fence, verdict: "succeeded" })),
  );
  const rest: Row[] = [];
  for (let last = first.at(-1); ; ) {
    const rows = await page(one, filter, last, 2);
    rest.push(...rows);
    last = rows.at(-1);
    if (rows.length < 2) break;
  }
  const seen = new Set([...first, ...rest].map(({ id }) => id));
  expect(pushed.filter(({ id }) => !seen.has(id))).toEqual([]);
  expect(await page(one, filter, undefined, 10, time(0))).toEqual([]);
});

test("an outcome is recorded whatever its metadata holds, and lists read it", async () => {
  const { one, newQueue } = sessions;
  const queue = newQueue();
  const chain = { correlationId: newId(), source: "C:\\users" };
  const texts = [
    JSON.stringify(chain),
    '{"a":"\\u0000"}',
    "[1]",
    "5",
    "null",
    '{"correlationId":{"a":1}}',
    JSON.stringify({ correlationId: "é".repeat(4_000) }),
  ];
  const leased = await one.leaseNow(
    queue,
    texts.map(() => ({})),
  );
  for (const [index, text] of texts.entries()) {
    await one.rows("update orchestratum.command set metadata = $1::text::json where id = $2::text::uuid", [
      text,
      leased[index]?.id ?? "",
    ]);
  }
  const { results } = await one.finish(
    "worker",
    leased.map(({ id, fence }) => ({ id, fence, verdict: "succeeded" })),
  );
  expect(results.map(({ result }) => result)).toEqual(texts.map(() => "accepted"));
  expect(await pages(one, { queue, from: time(0) }, 4)).toHaveLength(texts.length);
  expect(await pages(one, { correlation_id: chain.correlationId, from: time(0) }, 4)).toEqual([leased[0]?.id]);
});

test("tree() and timeline() end where SQL has tied parents to a ring", async () => {
  const { one, newQueue } = sessions;
  const [a, b, c] = [newId(), newId(), newId()];
  await one.push(
    [
      { id: a, parent_id: c },
      { id: b, parent_id: a },
      { id: c, parent_id: b },
    ].map((ring) => ({ ...ring, queue: newQueue() })),
  );
  const rows = await one.rows<Row>(queries.tree, [a, 100]);
  expect(rows.map(({ id }) => id).toSorted()).toEqual([a, b, c].toSorted());
  expect(await one.rows(queries.tree, [newId(), 100])).toEqual([]);
  expect(await one.rows(queries.timeline, [a, 100])).toHaveLength(2);
  expect(await one.rows(queries.timeline, [newId(), 100])).toEqual([]);
});

test("lists, trees and timelines touch few pages among 100,000, by plans of the empty table", async () => {
  const { two: session, three: loader } = sessions;
  // Plans that hold for any parameter, as functions come to have after some calls.
  await session.rows("set plan_cache_mode = force_generic_plan");
  await loader.rows("truncate orchestratum.history, orchestratum.command");
  await loader.rows("alter table orchestratum.command set (autovacuum_enabled = off)");
  for (let slot = 0; slot < 32; slot += 1) {
    await loader.rows(`alter table orchestratum.history_${slot} set (autovacuum_enabled = off)`);
  }
  await loader.rows("analyze orchestratum.command, orchestratum.history");
  const id = (n: number): string => `b0000000-0000-7000-8000-${n.toString(16).padStart(12, "0")}`;
  const list = (filter: object, after: object | null = null): [string, unknown[]] => [
    "list",
    [{ statuses: all, hooks: false, ...filter }, after, 100, null],
  ];
  const statements: [string, unknown[]][] = [
    list({}),
    list({ statuses: ["failed"] }),
    list({}, { finished_at: "2024-12-31 16:00:00+00", id: id(1) }),
    list({ from: "2024-12-31T16:00:00Z", to: "2024-12-31T16:00:05Z", queue: "past" }),
    list({ parent_id: id(77) }),
    list({ correlation_id: "c77" }),
    ["tree", [id(770), 100]],
    ["timeline", [id(77), 100]],
    ["progress", [[id(5), id(6)]]],
  ];
  for (const name of ["list", "tree", "timeline", "progress"] as const) {
    await session.rows(`prepare hot_${name} as ${queries[name]}`);
  }
  const executions = statements.map(([name, params]) => execution(name, params));
  for (const text of executions) for (let turn = 0; turn < 6; turn += 1) await session.rows(text);

  await loader.rows(
    historyRows(
      1,
      100_000,
      "('b0000000-0000-7000-8000-' || lpad(to_hex(n / 10), 12, '0'))::uuid, json_build_object('correlationId', 'c' || n / 10)",
    ),
  );
  for (const text of executions) {
    // Whatever other databases' DDL makes the server forget is read again, and counts: the least of three.
    const each: number[] = [];
    for (let time = 0; time < 3; time += 1) {
      const explained = await session.explain(text);
      expect(explained.rows, text).toBeGreaterThan(0);
      each.push(explained.pages);
    }
    const pages = Math.min(...each);
    // For each node of a tree 32 slots are probed twice, by its id and as a parent; one index of 100,000 rows alone, 32 times over.
    expect(pages, text).toBeLessThan(text.startsWith("execute hot_tree") ? 25_000 : 1_500);
  }
});
