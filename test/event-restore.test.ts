/**
 * What a dump restored into another cluster keeps: every cursor that was stored, in the database or outside of it. The new
 * cluster counts its transactions anew, so whatever went by their ids would be out of order there.
 */
import postgres from "postgres";
import { expect, test } from "vitest";
import { postgresJs } from "../adapters/postgres-js.ts";
import { createOrchestrator, defineEvent, type Orchestrator, type RecordedEvent } from "../src/index.ts";
import { startPostgres } from "./postgres.ts";

const counted = defineEvent({ topic: "test.events.counted" });
const event = (n: number) => counted({ n } as never);
const numbersOf = (events: readonly RecordedEvent[]): number[] => events.map(({ data }) => (data as { n: number }).n);
const upTo = (count: number): number[] => Array.from({ length: count }, (_, index) => index + 1);

/** As a dump does it: every row of every table as text, into a schema that migrate() made, and where sequences stand. */
async function copyAll(from: postgres.Sql, to: postgres.Sql): Promise<number> {
  const tables = await from<{ name: string }[]>`
    select c.oid::regclass::text as name
    from pg_class c
    where c.relnamespace = 'orchestratum'::regnamespace and c.relkind = 'r'
    order by c.relname = 'subscription_pattern', c.relname`;
  let rows = 0;
  await to.unsafe(`truncate ${tables.map(({ name }) => name).join()}`);
  for (const { name } of tables) {
    const [copied] = await from.unsafe(
      `select coalesce(json_agg(t), '[]')::text as rows, count(*)::int as count from ${name} t`,
    );
    await to.unsafe(
      `insert into ${name} overriding system value select * from json_populate_recordset(null::${name}, $1::text::json)`,
      [copied?.rows],
    );
    rows += copied?.count;
  }
  const sequences = await from<{ name: string; last: string | null }[]>`
    select format('%I.%I', s.schemaname, s.sequencename) as name, s.last_value::text as last
    from pg_sequences s
    where s.schemaname = 'orchestratum'`;
  for (const { name, last } of sequences) if (last !== null) await to`select setval(${name}, ${last}::text::bigint)`;
  return rows;
}

/** Starts the reader "projection", and answers what it gets until it has `last`. */
async function follow(orchestrator: Orchestrator, last: number): Promise<number[]> {
  const seen: number[] = [];
  let done = () => {};
  const all = new Promise<void>((resolve) => {
    done = resolve;
  });
  const reader = orchestrator.startReader({
    name: "projection",
    batchSize: 2,
    pollIntervalMs: 50,
    handle(events) {
      seen.push(...numbersOf(events));
      if (seen.at(-1) === last) done();
    },
  });
  await all;
  await reader.stop();
  return seen;
}

test("after a dump was restored into a new cluster every cursor goes on where it was", {
  timeout: 120_000,
}, async () => {
  const [oldServer, newServer] = await Promise.all([startPostgres(), startPostgres()]);
  const options = { max: 4, onnotice: () => {} };
  const [oldSql, newSql] = [postgres(oldServer.url, options), postgres(newServer.url, options)];
  const before = createOrchestrator({ database: postgresJs(oldSql) });
  const after = createOrchestrator({ database: postgresJs(newSql) });
  try {
    await before.migrate();
    await after.migrate();
    // The old cluster is far ahead with its transactions.
    await oldSql`do $$ begin for turn in 1..3000 loop perform pg_current_xact_id(); commit; end loop; end $$`;
    await before.append("order", upTo(4).map(event), { expectedVersion: 0 });
    expect(await follow(before, 4)).toEqual(upTo(4));
    await before.append("order", event(5));
    const page = await before.readAll({ limit: 3 });
    expect(numbersOf(page.events)).toEqual([1, 2, 3]);
    // Two that nobody has placed.
    await before.append("order", event(6));
    await before.publish(event(7));
    const [transactions] = await oldSql`select pg_current_xact_id()::text as id`;
    expect(await copyAll(oldSql, newSql)).toBeGreaterThan(20);
    const [fewer] = await newSql`select pg_current_xact_id()::text as id`;
    expect(Number(fewer?.id)).toBeLessThan(Number(transactions?.id));

    // The stream goes on, and knows its version.
    await expect(after.append("order", event(0), { expectedVersion: 5 })).rejects.toMatchObject({ currentVersion: 6 });
    expect((await after.append("order", event(8), { expectedVersion: 6 })).version).toBe(7);
    // A cursor that was kept elsewhere, and the reader's own.
    const rest = await after.readAll({ after: page.position });
    expect(numbersOf(rest.events)).toEqual([4, 5, 6, 7, 8]);
    expect(rest.events.map(({ position }) => position)).toEqual([4, 5, 6, 7, 8]);
    expect(await follow(after, 8)).toEqual([5, 6, 7, 8]);
  } finally {
    await Promise.all([before.stop(), after.stop()]);
    await Promise.all([oldSql.end({ timeout: 1 }), newSql.end({ timeout: 1 })]);
    await Promise.all([oldServer.stop(), newServer.stop()]);
  }
});
