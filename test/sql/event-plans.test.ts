/**
 * As plans.test.ts, for events: one session prepares on the analysed empty tables and keeps its plans when a hundred and
 * fifty thousand events arrive. What a statement costs then is told by the pages it touches.
 */
import { afterAll, beforeAll, expect, test } from "vitest";
import { postgresJs } from "../../adapters/postgres-js.ts";
import { migrate } from "../../src/migrate.ts";
import { queries } from "../../src/sql.generated.ts";
import { type Postgres, startPostgres } from "../postgres.ts";
import { execution, newId, Session } from "./session.ts";

const batch = 10;
const count = 150_000;
const minutes = 60_000;

/** For each event: by its position, and by its id in its slot; and once what all slots' indexes cost. */
const pagesEach = 30;
const pagesOnce = 150;

/** The smallest index: what a plan reads that finds nothing by its conditions. */
const smallestIndexPages = 500;

const hot = [
  "append",
  "appendAgain",
  "publishBatch",
  "getEvent",
  "eventDeliveries",
  "sequenceEvents",
  "readLog",
  "readStream",
] as const;
type Statement = (typeof hot)[number];

let server: Postgres;
let session: Session;
let loader: Session;

/** The id of an event that is there before the tests. */
const stored = (n: number): string => `e0000000-0000-7000-8000-${n.toString(16).padStart(12, "0")}`;

const events = (size = batch): object[] =>
  Array.from({ length: size }, () => ({ id: newId(), topic: "test.events.happened", data: { a: 1 } }));

beforeAll(async () => {
  server = await startPostgres({ autovacuum: "off" });
  {
    await using database = postgresJs(server.url);
    await migrate(database);
  }
  session = await Session.open(server);
  loader = await Session.open(server);
  await loader.rows("update orchestratum.setting set keep_events = '7 days'");
  await loader.rows(
    "analyze orchestratum.event, orchestratum.event_position, orchestratum.event_inbox, orchestratum.stream",
  );
  // One that gets every event of these tests, and two that get none.
  await loader.rows(queries.registerSubscriptions, [
    JSON.stringify(
      Array.from({ length: 3 }, (_, n) => ({
        ...{ name: `subscription ${n}`, patterns: [n === 0 ? "test.*.happened" : `test.other_${n}.#`] },
        ...{ queue: "default", priority: 5, max_attempts: 4, timeout_ms: 60_000 },
      })),
    ),
    "add",
  ]);
  await loader.rows(
    "analyze orchestratum.subscription, orchestratum.subscription_pattern, orchestratum.command, orchestratum.history",
  );
  for (const statement of hot) await session.rows(`prepare hot_${statement} as ${queries[statement]}`);
  const onEmpty: [Statement, unknown[]][] = [
    // A conflict: it goes all the way, and leaves the tables empty.
    ["append", ["nobody", 7, events()]],
    ["appendAgain", ["nobody", 7, events()]],
    ["publishBatch", ["[]", false]],
    ["publishBatch", ["[]", true]],
    ["getEvent", [stored(1)]],
    ["eventDeliveries", [stored(1), "test.events.happened", "2025-01-01T00:00:00Z"]],
    ["sequenceEvents", [1_000]],
    ["readLog", ["0", 100, null, 10_000]],
    ["readLog", ["0", 100, "^rare$", 100]],
    ["readStream", ["nobody", null, false, 100]],
    ["readStream", ["nobody", null, true, 100]],
  ];
  for (let time = 0; time < 10; time += 1) {
    for (const [statement, params] of onEmpty) await session.rows(execution(statement, params));
  }
  // Half of them from before there was a retention, and the others all over the ring; a hundred streams.
  await loader.rows(`
    insert into orchestratum.event (id, slot, stream, version, topic, data, appended_at)
    select
      ('e0000000-0000-7000-8000-' || lpad(to_hex(n), 12, '0'))::uuid, case when n % 2 = 0 then 0 else n / 2 % 16 + 1 end,
      'stream ' || n % 100, n / 100 + 1, 'test.events.happened', '{"a": 1}', now()
    from generate_series(0, ${count - 1}) n`);
  await loader.rows(`
    insert into orchestratum.stream (name, version)
    select 'stream ' || n, ${count / 100} from generate_series(0, 99) n`);
  await loader.rows(`
    insert into orchestratum.event_position (position, slot, event_id)
    select n + 1, case when n % 2 = 0 then 0 else n / 2 % 16 + 1 end, ('e0000000-0000-7000-8000-' || lpad(to_hex(n), 12, '0'))::uuid
    from generate_series(0, ${count - 1}) n`);
  // After them some in slot 0 alone, as where there is no retention.
  await loader.rows(`
    insert into orchestratum.event (id, slot, topic, appended_at)
    select ('e1000000-0000-7000-8000-' || lpad(to_hex(n), 12, '0'))::uuid, 0, 'test.events.happened', now()
    from generate_series(1, 1000) n`);
  await loader.rows(`
    insert into orchestratum.event_position (position, slot, event_id)
    select ${count} + n, 0, ('e1000000-0000-7000-8000-' || lpad(to_hex(n), 12, '0'))::uuid from generate_series(1, 1000) n`);
  await loader.rows(`update orchestratum.event_head set position = ${count + 1_000}`);
  // Of the commands each is a delivery of another subscription's, half of them finished.
  await loader.rows(`
    insert into orchestratum.command (
      id, name, version, queue, priority, due_at, available_at, max_attempts, timeout_ms, created_at
    )
    select
      ('a0000000-0000-7000-8000-' || lpad(to_hex(n), 12, '0'))::uuid, 'deliver:another', 1, 'default', 5, now(), now(), 4, 60000, now()
    from generate_series(1, ${count}) n`);
  await loader.rows(`
    insert into orchestratum.history (
      slot, id, name, version, queue, priority, status, due_at, fence, attempt, max_attempts, losses, timeout_ms, worker,
      finished_at, created_at
    )
    select
      n % 32, ('b0000000-0000-7000-8000-' || lpad(to_hex(n), 12, '0'))::uuid, 'deliver:another', 1, 'default', 5, 'succeeded', now(),
      1, 1, 4, 0, 60000, 'worker', now(), now()
    from generate_series(1, ${count}) n`);
}, 5 * minutes);

afterAll(async () => {
  await session[Symbol.asyncDispose]();
  await loader[Symbol.asyncDispose]();
  await server.stop();
});

/** With how many rows each answers: hints at deliveries are rows, too. */
const statements: [string, Statement, number, () => unknown[] | Promise<unknown[]>][] = [
  ["append() to a stream", "append", 2, () => ["stream 1", count / 100, events()]],
  ["append() without a stream", "append", 2, () => [null, null, events()]],
  ["append() that conflicts", "append", 0, () => ["stream 2", 3, events()]],
  // Every id is looked for in all slots, and then appended: half as many take what is allowed.
  ["append_again() of what is new", "appendAgain", 2, () => ["stream 3", null, events(batch / 2)]],
  [
    "append_again() of what is there",
    "appendAgain",
    2,
    () => ["stream 0", null, [{ id: stored(0), topic: "test.events.happened", data: { a: 1 } }]],
  ],
  [
    "sequence_events()",
    "sequenceEvents",
    1,
    async () => {
      await loader.rows(queries.sequenceEvents, [10_000]);
      await loader.rows(queries.append, ["stream 5", null, JSON.stringify(events())]);
      return [1_000];
    },
  ],
  ["publish_batch() and the deliveries", "publishBatch", 1, () => [events(), false]],
  // Each is looked for in every slot, before it is written and after.
  ["publish_batch() of what may be there", "publishBatch", 1, () => [events(5), true]],
  [
    "publish_batch() of what is there",
    "publishBatch",
    1,
    () => [[{ id: "e1000000-0000-7000-8000-000000000007", topic: "test.events.happened" }], true],
  ],
  ["get_event()", "getEvent", 1, () => [stored(4_711)]],
  [
    "event_deliveries()",
    "eventDeliveries",
    1,
    async () => {
      const event = { id: newId(), topic: "test.events.happened" };
      await loader.rows(queries.publishBatch, [JSON.stringify([event]), false]);
      return [event.id, event.topic, new Date().toISOString()];
    },
  ],
  ["read_log() of slot 0 alone", "readLog", batch + 1, () => [String(count), batch, null, 10_000]],
  ["read_log() from the middle", "readLog", batch + 1, () => [String(count / 2), batch, null, 10_000]],
  ["read_log() at the end", "readLog", 1, () => [String(count * 2), batch, null, 10_000]],
  [
    "read_log() of one topic",
    "readLog",
    batch + 1,
    () => [String(count / 3), batch, "^test\\.events\\.[^.]+$", 10_000],
  ],
  ["read_stream() forwards", "readStream", batch, () => ["stream 7", 1_000, false, batch]],
  ["read_stream() backwards", "readStream", batch, () => ["stream 7", null, true, batch]],
];

test.each(statements)(
  "%s touches few pages by a plan of the empty table",
  async (_, statement, rows, params) => {
    const explained = await session.explain(execution(statement, await params()));
    expect(explained.rows).toBe(rows);
    expect(pagesEach * batch + pagesOnce).toBeLessThan(smallestIndexPages);
    expect(explained.pages).toBeLessThan(pagesEach * batch + pagesOnce);
  },
  2 * minutes,
);

test("the smallest index is as large as these tests take it to be", async () => {
  const { pages } = await loader.row<{ pages: number }>(`
    select (min(sized.bytes) / 8192)::int as pages
    from (
      select sum(pg_relation_size(i.indexrelid)) as bytes
      from pg_index i
      join pg_inherits h on h.inhrelid = i.indexrelid
      where i.indrelid::regclass::text like 'orchestratum.event%'
      group by h.inhparent
    ) sized`);
  expect(pages).toBeGreaterThan(smallestIndexPages);
});

test("event_deliveries() goes through what a thousand drops tell once, and not for each of 200 subscriptions", async () => {
  await loader.rows(`
    insert into orchestratum.subscription (name, queue, priority, max_attempts, timeout_ms, added_at, seen_at)
    select 'drop ' || n, 'default', 5, 4, 60000, now(), now() from generate_series(1, 200) n`);
  await loader.rows(`
    insert into orchestratum.act (at, kind, target, affected)
    select now(), 'drop', json_build_object('ids', (select json_agg(gen_random_uuid()) from generate_series(1, 20) where n > 0)), 30
    from generate_series(1, 1000) n`);
  await session.rows("set statement_timeout = '3s'");
  const asked = execution("eventDeliveries", [stored(1), "test.heard_by.nobody", "2025-01-01T00:00:00Z"]);
  expect(await session.row(asked)).toMatchObject({ is_dropped: false });
  await loader.rows("analyze orchestratum.act, orchestratum.subscription, orchestratum.subscription_pattern");
  expect(await session.row(asked)).toMatchObject({ is_dropped: false });
});
