/**
 * What a dump restored into another cluster keeps: everything that is stored, and every cursor, in the database or outside
 * of it. The new cluster counts its transactions anew, so whatever went by their ids would be out of order there. The
 * dump is pg_dump's own: of the embedded database, whose pg_dump is a package, into a server.
 */
import { PGlite } from "@electric-sql/pglite";
import { pgDump } from "@electric-sql/pglite-tools/pg_dump";
import postgres from "postgres";
import { expect, test, vi } from "vitest";
import { pglite } from "../adapters/pglite.ts";
import { postgresJs } from "../adapters/postgres-js.ts";
import {
  createOrchestrator,
  defineCommand,
  defineEvent,
  type Observation,
  type Orchestrator,
  type RecordedEvent,
  subscribe,
} from "../src/index.ts";
import { startPostgres } from "./postgres.ts";

const counted = defineEvent({ topic: "test.events.counted" });
const event = (n: number) => counted({ n } as never);
const numbersOf = (events: readonly RecordedEvent[]): number[] => events.map(({ data }) => (data as { n: number }).n);
const upTo = (count: number): number[] => Array.from({ length: count }, (_, index) => index + 1);

const job = defineCommand({ name: "job", retries: 3 });
const later = defineCommand({ name: "later", queue: "later" });

/** What a subscription got, by its name. */
function collecting(name: string) {
  const got: number[] = [];
  const handler = subscribe({
    name,
    to: counted,
    queue: name,
    handler: ({ event: { data } }) => void got.push((data as { n: number }).n),
  });
  return { got, handler };
}

/** The rights of `role` in the schema, one line each. */
const rightsOf = `
  select c.relname || ': ' || a.privilege_type as granted
  from pg_class c
  cross join lateral aclexplode(c.relacl) a
  where c.relnamespace = 'orchestratum'::regnamespace and a.grantee = 'shop'::regrole
  union all
  select p.proname || ': ' || a.privilege_type
  from pg_proc p
  cross join lateral aclexplode(p.proacl) a
  where p.pronamespace = 'orchestratum'::regnamespace and a.grantee = 'shop'::regrole
  order by 1`;

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

test("after a dump was restored into a new cluster everything is there, and every cursor goes on where it was", {
  timeout: 120_000,
}, async () => {
  const [old, newServer] = await Promise.all([PGlite.create(), startPostgres()]);
  const newSql = postgres(newServer.url, { max: 4, onnotice: () => {} });
  const waits = collecting("waits");
  const before = createOrchestrator({ database: pglite(old), handlers: [job.handle(() => {})] });
  const observations: Observation[] = [];
  const late = collecting("late");
  const after = createOrchestrator({
    database: postgresJs(newSql),
    handlers: [job.handle(() => {}), later.handle(() => {}), waits.handler],
    observe: (observation) => void observations.push(observation),
  });
  try {
    await before.migrate();
    await old.exec(`
      create role shop;
      grant usage on schema orchestratum to shop;
      grant select, insert, update, delete on all tables in schema orchestratum to shop;
      grant execute on function orchestratum.expire_history, orchestratum.expire_events to shop`);
    // The old cluster is far ahead with its transactions.
    await old.exec("do $$ begin for turn in 1..3000 loop perform pg_current_xact_id(); commit; end loop; end $$");
    await before.append("order", upTo(4).map(event), { expectedVersion: 0 });
    expect(await follow(before, 4)).toEqual(upTo(4));
    await before.append("order", event(5));
    const page = await before.readAll({ limit: 3 });
    expect(numbersOf(page.events)).toEqual([1, 2, 3]);
    await before.addSubscription(waits.handler);
    // Two that nobody has placed, each with a delivery that waits.
    await before.append("order", event(6));
    const published = await before.publish(event(7));

    // Commands: one has ended, one waits for its time, one is leased to a worker that will not be heard of again.
    const worker = before.startWorker({ queues: ["default"] });
    const finished = await before.push(job());
    await before.waitFor(finished.id, { timeoutMs: 20_000 });
    await worker.stop();
    const scheduled = await before.push(later(undefined, { delayMs: 3_600_000, metadata: { correlationId: "o-7" } }));
    const leased = await before.push(job());
    await old.query(`
      select id from orchestratum.claim('gone', '[{"queue": "default", "priority": 5}]', 10, 8000000, 1000)`);
    const ids = [finished.id, scheduled.id];
    const known = await Promise.all(ids.map((id) => before.get(id)));
    const granted = (await old.query<{ granted: string }>(rightsOf)).rows;
    expect(granted.length).toBeGreaterThan(100);
    const [transactions] = (await old.query<{ id: string }>("select pg_current_xact_id()::text as id")).rows;
    await before.stop();

    const dump = await (await pgDump({ pg: old, args: ["--schema=orchestratum"] })).text();
    await newSql`create role shop`;
    // What a dump sets for its session ends with it.
    const restoring = postgres(newServer.url, { max: 1, onnotice: () => {} });
    await restoring.unsafe(dump);
    await restoring.end();
    const [fewer] = await newSql`select pg_current_xact_id()::text as id`;
    expect(Number(fewer?.id)).toBeLessThan(Number(transactions?.id));
    expect((await after.migrate()).applied).toEqual([]);
    expect([...(await newSql.unsafe<{ granted: string }[]>(rightsOf))]).toEqual(granted);
    expect(await Promise.all(ids.map((id) => after.get(id)))).toEqual(known);

    // The stream goes on, and knows its version.
    await expect(after.append("order", event(0), { expectedVersion: 5 })).rejects.toMatchObject({ currentVersion: 6 });
    expect((await after.append("order", event(8), { expectedVersion: 6 })).version).toBe(7);
    // A cursor that was kept elsewhere, and the reader's own.
    const rest = await after.readAll({ after: page.position });
    expect(numbersOf(rest.events)).toEqual([4, 5, 6, 7, 8]);
    expect(rest.events.map(({ position }) => position)).toEqual([4, 5, 6, 7, 8]);
    expect(await follow(after, 8)).toEqual([5, 6, 7, 8]);

    // What waited is delivered, and so is what came since; the lease that nobody holds ends, and is told of.
    await after.startWorker({ queues: ["default", "later", "waits"], pollIntervalMs: 200 }).started;
    expect(await after.waitFor(leased.id, { timeoutMs: 20_000 })).toMatchObject({ status: "succeeded" });
    expect(observations.find(({ type }) => type === "lease_abandoned")).toMatchObject({
      id: leased.id,
      fence: 2,
      abandonedBy: "gone",
    });
    await vi.waitFor(() => expect(waits.got.toSorted()).toEqual([6, 7, 8]), { timeout: 20_000 });
    await vi.waitFor(async () => expect(await after.eventStatus(published.id)).toMatchObject({ status: "handled" }), {
      timeout: 20_000,
    });
    // A subscription of today gets everything there ever was, behind a position of the old cluster's.
    await after.addSubscription(late.handler, { from: page.position });
    const other = createOrchestrator({ database: postgresJs(newSql), handlers: [late.handler] });
    await other.startWorker({ queues: ["late"], pollIntervalMs: 200 }).started;
    await vi.waitFor(() => expect(late.got.toSorted()).toEqual([4, 5, 6, 7, 8]), { timeout: 20_000 });
    await other.stop();
  } finally {
    await Promise.all([before.stop(), after.stop()]);
    await Promise.all([old.close(), newSql.end({ timeout: 1 })]);
    await newServer.stop();
  }
});
