/**
 * As plans.test.ts, for events: one session prepares on the analysed empty tables and keeps its plans when a hundred and
 * fifty thousand events arrive. What a statement costs then is told by the pages it touches.
 */
import { afterAll, beforeAll, expect, test } from "vitest";
import { postgresJs } from "../../adapters/postgres-js.ts";
import { migrate } from "../../src/migrate.ts";
import { queries } from "../../src/sql.generated.ts";
import { type Postgres, startPostgres } from "../postgres.ts";
import { newId, Session } from "./session.ts";

const batch = 10;
const count = 150_000;
const minutes = 60_000;

/** For each event: by its position, and by its id in its slot; and once what all slots' indexes cost. */
const pagesEach = 30;
const pagesOnce = 150;

/** The smallest index: what a plan reads that finds nothing by its conditions. */
const smallestIndexPages = 500;

type Statement = "append" | "appendAgain" | "sequenceEvents" | "readLog" | "readStream";

let server: Postgres;
let session: Session;
let loader: Session;

const literal = (value: unknown): string =>
  value === null || typeof value === "number" || typeof value === "boolean"
    ? String(value)
    : `'${(typeof value === "string" ? value : JSON.stringify(value)).replaceAll("'", "''")}'`;

const execution = (statement: Statement, params: readonly unknown[]): string =>
  `execute hot_${statement} (${params.map(literal).join()})`;

interface Explained {
  "QUERY PLAN": [{ Plan: { "Shared Hit Blocks": number; "Shared Read Blocks": number; "Actual Rows": number } }];
}

async function explain(statement: Statement, params: readonly unknown[]): Promise<{ pages: number; rows: number }> {
  const explained = await session.row<Explained>(
    `explain (analyze, buffers, format json) ${execution(statement, params)}`,
  );
  const { Plan } = explained["QUERY PLAN"][0];
  return { pages: Plan["Shared Hit Blocks"] + Plan["Shared Read Blocks"], rows: Plan["Actual Rows"] };
}

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
  const all: Statement[] = ["append", "appendAgain", "sequenceEvents", "readLog", "readStream"];
  for (const statement of all) await session.rows(`prepare hot_${statement} as ${queries[statement]}`);
  const onEmpty: [Statement, unknown[]][] = [
    // A conflict: it goes all the way, and leaves the tables empty.
    ["append", ["nobody", 7, events()]],
    ["appendAgain", ["nobody", 7, events()]],
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
  await loader.rows(`update orchestratum.event_head set position = ${count}`);
}, 5 * minutes);

afterAll(async () => {
  await session[Symbol.asyncDispose]();
  await loader[Symbol.asyncDispose]();
  await server.stop();
});

const statements: [string, Statement, number, () => unknown[] | Promise<unknown[]>][] = [
  ["append() to a stream", "append", 1, () => ["stream 1", count / 100, events()]],
  ["append() without a stream", "append", 1, () => [null, null, events()]],
  ["append() that conflicts", "append", 0, () => ["stream 2", 3, events()]],
  ["append_again() of what is new", "appendAgain", 1, () => ["stream 3", null, events()]],
  [
    "append_again() of what is there",
    "appendAgain",
    1,
    () => ["stream 0", null, [{ id: "e0000000-0000-7000-8000-000000000000", topic: "t" }]],
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
    const explained = await explain(statement, await params());
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
