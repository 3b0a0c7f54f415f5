/**
 * Each finding as it comes about, on a server of its own: some are settings of the server. What would take hours is
 * found by lower limits, or as if the time had gone by.
 */

import { PGlite } from "@electric-sql/pglite";
import postgres from "postgres";
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from "vitest";
import { pglite } from "../adapters/pglite.ts";
import { type PostgresJsDatabase, postgresJs } from "../adapters/postgres-js.ts";
import { expectedRelations } from "../src/doctor.ts";
import {
  createOrchestrator,
  type DoctorOptions,
  type Driver,
  defineCommand,
  defineEvent,
  type Examination,
  examine,
  type Finding,
  migrate,
  migrateDown,
  type Orchestrator,
} from "../src/index.ts";
import { type Postgres, startPostgres } from "./postgres.ts";

const minute = 60_000;
const job = defineCommand({ name: "job", retries: 0 });

let server: Postgres;
let admin: postgres.Sql;

beforeAll(async () => {
  server = await startPostgres({ max_prepared_transactions: "5", max_notify_queue_pages: "64" });
  admin = postgres(server.url, { max: 1, onnotice: () => {} });
  await admin.unsafe("create database template_of_patients");
  await using database = postgresJs(urlOf("template_of_patients"));
  await migrate(database);
}, 120_000);
afterAll(async () => {
  await admin.end();
  await server.stop();
});

function urlOf(name: string): string {
  const url = new URL(server.url);
  url.pathname = `/${name}`;
  return url.href;
}

let patients = 0;
let database: PostgresJsDatabase;
let sql: postgres.Sql;
let url: string;
let orchestrators: Orchestrator[];

beforeEach(async () => {
  patients += 1;
  await admin.unsafe(`create database patient_${patients} template template_of_patients`);
  url = urlOf(`patient_${patients}`);
  database = postgresJs(url);
  sql = postgres(url, { max: 2, onnotice: () => {} });
  orchestrators = [];
});
afterEach(async () => {
  await Promise.all(orchestrators.map((one) => one.stop({ graceMs: 0 })));
  await sql.end({ timeout: 0 });
  await database.close();
  await admin.unsafe(`drop database patient_${patients} with (force)`);
});

function orchestrate(options: { handled?: boolean } = {}): Orchestrator {
  const handlers = options.handled === false ? [] : [job.handle(() => {})];
  const orchestrator = createOrchestrator({ database, handlers, commands: [job] });
  orchestrators.push(orchestrator);
  return orchestrator;
}

async function working(): Promise<Orchestrator> {
  const orchestrator = orchestrate();
  await orchestrator.startWorker().started;
  return orchestrator;
}

/** All findings, given time to hear of notifications on a machine that is busy. */
const examined = (driver: Driver, options: DoctorOptions = {}): Promise<Examination> =>
  examine(driver, { ...options, limits: { listenMs: 20_000, ...options.limits } });

const found = async (code: Finding["code"], options?: DoctorOptions): Promise<Finding[]> =>
  (await examined(database, options)).findings.filter((finding) => finding.code === code);

/** The one finding of this kind, which says what and what to do in sentences without holes. */
async function only(code: Finding["code"], options?: DoctorOptions): Promise<Finding> {
  const [first, ...others] = await found(code, options);
  expect(others).toEqual([]);
  expect(first, code).toBeDefined();
  const { seen, advice } = first as Finding;
  expect(`${seen}. ${advice}`).not.toMatch(/undefined|null,|NaN|Invalid/);
  return first as Finding;
}

async function eventually(look: () => Promise<void>, limitMs = 20_000): Promise<void> {
  const until = performance.now() + limitMs;
  for (;;) {
    try {
      return await look();
    } catch (error) {
      if (performance.now() > until) throw error;
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  }
}

// Health.

test("examine() finds nothing in a database that is well", async () => {
  expect(await examined(database)).toEqual({ findings: [], worst: undefined });
  const { push, waitFor, cancel } = await working();
  const { id } = await push(job());
  await waitFor(id);
  await push(job(undefined, { delayMs: minute }));
  await cancel((await push(job(undefined, { delayMs: minute }))).id);
  // Duties run once at the start.
  await new Promise((resolve) => setTimeout(resolve, 200));
  expect(await examined(database)).toEqual({ findings: [], worst: undefined });
});

test("examine() finds nothing in an embedded database that is well", async () => {
  const instance = await PGlite.create();
  const driver = pglite(instance);
  await migrate(driver, { schema: "user" });
  expect(await examined(driver, { schema: "user" })).toEqual({ findings: [], worst: undefined });
  await instance.close();
});

// The schema.

test("examine() tells of a schema that is missing, old or newer", async () => {
  expect(await examined(database, { schema: "nowhere" })).toMatchObject({
    worst: "error",
    findings: [
      {
        code: "not_migrated",
        advice: "Run `orchestratum migrate --schema nowhere`, or migrate() at the start of the application",
        figures: { schema: "nowhere" },
      },
    ],
  });
  await expect(examine(database, { schema: "No" })).rejects.toThrow(TypeError);
  await migrateDown(database);
  expect((await only("migrations_pending")).severity).toBe("error");
  expect((await only("functions_outdated")).figures).toEqual({ functions: "missing" });
  await migrate(database);
  await sql`insert into orchestratum.migration (version, name) values (999, 'from_the_future')`;
  expect(await only("schema_newer")).toMatchObject({ severity: "note", figures: { unknown: "0999_from_the_future" } });
});

test("examine() tells of functions that are not what was installed", async () => {
  const [row] = await sql<{ text: string }[]>`
    select pg_get_functiondef('orchestratum.claim'::regproc) as text`;
  const text = row?.text ?? "";
  await sql.unsafe(text.replace("for update skip locked", "for update"));
  expect(await only("function_differs")).toMatchObject({ severity: "error", figures: { function: "claim" } });
  await sql.unsafe(text);
  expect(await found("function_differs")).toEqual([]);
  await sql.unsafe("alter function orchestratum.finish reset enable_seqscan");
  expect((await only("function_differs")).figures).toEqual({ function: "finish" });
  await sql.unsafe("drop function orchestratum.get");
  expect((await found("function_differs")).map(({ figures }) => figures.function)).toEqual(["finish", "get"]);
  // As the advice says.
  await sql.unsafe("update orchestratum.setting set functions_hash = null");
  await migrate(database);
  expect(await examined(database)).toEqual({ findings: [], worst: undefined });
});

test("examine() tells of indexes and views that are missing or invalid", async () => {
  expect(expectedRelations().size).toBeGreaterThan(20);
  await sql.unsafe("drop index orchestratum.command_claim; drop view orchestratum.all_duties");
  const missing = (await found("relation_missing")).map(({ figures }) => figures.relation);
  expect(missing.toSorted()).toEqual(["all_duties", "command_claim"]);
  await sql.unsafe("create index command_claim on orchestratum.command (queue, priority, available_at)");
  await sql.unsafe("update pg_index set indisvalid = false where indexrelid = 'orchestratum.command_claim'::regclass");
  expect(await only("index_invalid")).toMatchObject({ severity: "error", figures: { index: "command_claim" } });
});

// The server.

test("examine() tells of a clock that is ahead or behind", async () => {
  expect((await only("clock_skew", { now: () => Date.now() - minute })).seen).toMatch(
    / (59|60|61) s ahead of this machine's$/,
  );
  expect((await only("clock_skew", { now: () => Date.now() + minute })).seen).toMatch(
    / (59|60|61) s behind this machine's$/,
  );
  expect(await found("clock_skew", { now: () => Date.now() + 1_000 })).toEqual([]);
});

test("examine() tells of the oldest snapshot, and who holds it", async () => {
  const holder = await sql.reserve();
  await holder.unsafe("set application_name = 'the report'; begin isolation level repeatable read; select 1");
  const [{ pid } = {}] = await holder<{ pid: number }[]>`select pg_backend_pid() as pid`;
  const limits = { snapshotMs: 100 };
  await new Promise((resolve) => setTimeout(resolve, 150));
  const { seen, advice, figures } = await only("old_snapshot", { limits });
  expect(seen).toMatch(/role "postgres", application "the report".* idle in transaction: dead rows since then/);
  expect(advice).toContain(`pg_terminate_backend(${pid})`);
  expect(figures).toMatchObject({ pid, role: "postgres", application: "the report", state: "idle in transaction" });
  expect(await found("old_snapshot")).toEqual([]);
  await holder.unsafe("rollback");
  expect(await found("old_snapshot", { limits })).toEqual([]);
  // One that has written and looks at nothing any more keeps dead rows, too.
  await holder.unsafe("begin; create temporary table written (x int)");
  await new Promise((resolve) => setTimeout(resolve, 150));
  await only("old_snapshot", { limits });
  await holder.unsafe("rollback");
  holder.release();
});

test("examine() tells of a replication slot that nobody reads", async () => {
  await sql`select pg_create_physical_replication_slot('forgotten', true)`;
  const { seen, figures } = await only("replication_slot");
  expect(seen).toMatch(/^The physical replication slot "forgotten" is not read by anybody and keeps /);
  expect(figures).toMatchObject({ slot: "forgotten", active: false });
  await sql`select pg_drop_replication_slot('forgotten')`;
  expect(await found("replication_slot")).toEqual([]);
});

test("examine() tells of a prepared transaction", async () => {
  const session = await sql.reserve();
  await session.unsafe("begin; create table left_behind (x int); prepare transaction 'left behind'");
  session.release();
  const limits = { preparedMs: 0 };
  expect((await only("prepared_transaction", { limits })).figures).toMatchObject({
    transaction: "left behind",
    role: "postgres",
  });
  expect(await found("prepared_transaction")).toEqual([]);
  await sql.unsafe("rollback prepared 'left behind'");
  expect(await found("prepared_transaction", { limits })).toEqual([]);
});

test("examine() tells of dead rows and large indexes of the hot table, and of autovacuum that is off", async () => {
  await sql.unsafe(`
    alter table orchestratum.command set (autovacuum_enabled = off);
    alter table orchestratum.statistic set (autovacuum_enabled = off);
    alter table orchestratum.statistic_worker set (autovacuum_enabled = true)`);
  const off = (await found("autovacuum_off")).map(({ severity, figures }) => [severity, figures.table]);
  expect(off).toEqual([
    ["error", "command"],
    ["error", "statistic"],
  ]);
  await sql.unsafe(`
    insert into orchestratum.command (id, name, version, queue, priority, due_at, available_at, max_attempts, timeout_ms, created_at)
    select gen_random_uuid(), 'job', 1, 'default', 5, now(), now() + n * interval '1 ms', 4, 60000, now()
    from generate_series(1, 30000) n`);
  await sql.unsafe("delete from orchestratum.command");
  await sql.unsafe(`
    insert into orchestratum.statistic (
      span, started_at, queue, name, hook, status, count, waiting_ms, execution_ms, waiting, execution
    )
    select 5, now(), 'q', n::text, '', 'succeeded', 1, 1, 1, '{}', '{}' from generate_series(1, 25000) n`);
  await sql.unsafe("delete from orchestratum.statistic");
  // Counted when the session that wrote has told the server's statistics, about a second later.
  await eventually(async () => {
    expect((await only("dead_tuples")).figures).toMatchObject({ dead: 30_000, live: 0, vacuumed_ms_ago: null });
    expect((await only("autovacuum_behind")).figures).toMatchObject({ table: "statistic", dead: 25_000 });
  });
  expect(await found("index_bloat")).toEqual([]);
  const limits = { indexBytes: 500_000 };
  const bloated = (await found("index_bloat", { limits })).map(({ figures }) => figures.index);
  expect(bloated).toEqual(["command_claim", "command_pkey"]);
  await sql.unsafe("alter table orchestratum.command reset (autovacuum_enabled)");
  await sql.unsafe("alter table orchestratum.statistic reset (autovacuum_enabled)");
  await sql.unsafe("vacuum orchestratum.command");
  await sql.unsafe("vacuum orchestratum.statistic");
  await sql.unsafe("reindex table orchestratum.command");
  await eventually(async () => {
    expect(await examined(database, { limits })).toEqual({ findings: [], worst: undefined });
  });
});

test("examine() tells of a server without autovacuum", async () => {
  try {
    await admin.unsafe("alter system set autovacuum = off");
    await admin.unsafe("select pg_reload_conf()");
    await eventually(async () => {
      expect((await only("autovacuum_off")).figures).toEqual({ table: null });
    });
  } finally {
    await admin.unsafe("alter system reset autovacuum");
    await admin.unsafe("select pg_reload_conf()");
  }
  await eventually(async () => {
    expect(await found("autovacuum_off")).toEqual([]);
  });
});

test("examine() tells of history that is past its retention where new rows go", async () => {
  await sql.unsafe(`
    insert into orchestratum.history (
      slot, id, name, version, queue, priority, status, due_at, fence, attempt, max_attempts, losses, timeout_ms, finished_at, created_at
    )
    select
      orchestratum.history_slot(now(), true), gen_random_uuid(), 'job', 1, 'default', 5, 'succeeded', now(), 1, 1, 1, 0, 1000,
      now() - interval '8 days', now()`);
  const { seen, severity } = await only("history_overdue");
  expect(severity).toBe("warning");
  expect(seen).toMatch(/^Slot \d+ of history takes new rows and still has some from 20/);
});

test("examine() tells of events that nobody places", async () => {
  await sql.unsafe(`
    insert into orchestratum.event (id, slot, topic, appended_at)
    select ('00000000-0000-7000-8000-' || lpad(n::text, 12, '0'))::uuid, 0, 'a', now() - interval '1 hour' from generate_series(1, 11) n;
    insert into orchestratum.event_inbox (event_id, slot) select e.id, e.slot from orchestratum.event e`);
  const { seen, figures } = await only("inbox_growing", { limits: { inboxEvents: 10 } });
  expect(seen).toBe("More than 10 events are not placed in the log, the first for 60 min");
  expect(figures).toMatchObject({ events: 11 });
  expect(await found("inbox_growing")).toEqual([]);
});

test("examine() tells of events that are past their retention where new ones go", async () => {
  expect(await found("events_overdue")).toEqual([]);
  await sql.unsafe(`
    update orchestratum.setting set keep_events = interval '1 hour';
    insert into orchestratum.event (id, slot, topic, appended_at)
    select gen_random_uuid(), orchestratum.event_slot(now()), 'a', now() - interval '2 hours'`);
  const { seen, severity } = await only("events_overdue");
  expect(severity).toBe("warning");
  expect(seen).toMatch(/^Slot \d+ of events takes new ones and still has some from 20.*, past their retention: /);
});

test("examine() tells of a reader that fails again and again", async () => {
  const noted = defineEvent({ topic: "noted" });
  const orchestrator = orchestrate({ handled: false });
  await orchestrator.publish(noted());
  const reader = orchestrator.startReader({
    name: "projection",
    backoff: { initialMs: 1, jitter: "none" },
    handle: () => {
      throw new Error("no such column");
    },
  });
  await eventually(async () => {
    const { seen, figures } = await only("reader_failing");
    expect(seen).toMatch(/^Reader "projection" has failed \d+ times in a row, the last time .* ago: no such column$/);
    expect(figures).toMatchObject({ reader: "projection", lag: 1, last_error: "no such column" });
  });
  expect(await found("reader_failing", { limits: { readerFailures: 1_000_000 } })).toEqual([]);
  expect(await found("reader_behind")).toEqual([]);
  await reader.stop();
});

test("examine() tells of a reader that is behind, and of one that keeps what is past its retention", async () => {
  const noted = defineEvent({ topic: "noted" });
  const orchestrator = orchestrate({ handled: false });
  await sql`update orchestratum.setting set keep_events = interval '1 hour'`;
  const reader = orchestrator.startReader({ name: "projection", handle: () => {}, pollIntervalMs: 10 });
  await orchestrator.publish([noted(), noted()]);
  const limits = { readerLateMs: 0 };
  const dealtWith = async () => (await orchestrator.readers()).every(({ position, lag }) => position > 0 && lag === 0);
  await eventually(async () => expect(await dealtWith()).toBe(true));
  expect(await found("reader_behind", { limits })).toEqual([]);
  await reader.stop();
  await orchestrator.publish(noted());
  // Placed by nobody, it is not in the log.
  await sql`select orchestratum.sequence_events(100)`;
  const late = await only("reader_behind", { limits });
  expect(late.seen).toMatch(
    /^Reader "projection" has 1 event before it, the first of which has been there for .*; nobody reads for it$/,
  );
  expect(late.figures).toMatchObject({ reader: "projection", holder: null, lag: 1, keeps: false });
  expect(await found("reader_behind")).toEqual([]);
  await orchestrator.pauseReader("projection");
  expect(await found("reader_behind", { limits })).toEqual([]);
  // As if it had been paused for as long as events are kept.
  await sql`update orchestratum.event set appended_at = appended_at - interval '2 hours'`;
  const paused = await only("reader_behind");
  expect(paused.seen).toMatch(/; it is paused\. What is past its retention stays for it$/);
  expect(paused.figures).toMatchObject({ paused: true, keeps: true });
  expect(paused.advice).toBe("Resume it, or remove it where nobody needs it");
  // And it does: that is what is told of.
  expect(await sql`select orchestratum.expire_events() as slot`).toEqual([{ slot: null }]);
  await orchestrator.removeReader("projection");
  expect(await found("reader_behind")).toEqual([]);
  expect(await sql`select orchestratum.expire_events() as slot`).toEqual([{ slot: expect.any(Number) }]);
});

test("examine() tells of a queue of notifications that fills", async () => {
  const listener = await sql.reserve();
  await listener.unsafe("listen somewhere");
  await listener.unsafe("begin; select 1");
  try {
    const fill = () => sql`select count(pg_notify('elsewhere', repeat('x', 7000) || n)) from generate_series(1, 12) n`;
    await fill();
    expect(await only("notification_queue")).toMatchObject({ severity: "warning" });
    for (let time = 0; time < 3; time++) await fill();
    expect(await only("notification_queue")).toMatchObject({ severity: "error" });
  } finally {
    await listener.unsafe("rollback");
    listener.release();
  }
  // What listens is told of it when the transaction ends, and the next that notifies moves the queue on.
  await eventually(async () => {
    await sql`select pg_notify('elsewhere', 'once more')`;
    expect(await found("notification_queue")).toEqual([]);
  });
});

test("examine() tells of notifications that do not arrive", async () => {
  // Notifications stay in their database.
  await using elsewhere = postgresJs(urlOf("postgres"));
  const deaf: Driver = { ...database, listen: elsewhere.listen };
  const { findings } = await examine(deaf, { limits: { listenMs: 200 } });
  expect(findings).toMatchObject([{ code: "listen_silent", severity: "warning" }]);
  // Who polls by design misses nothing.
  const { listen: _, ...polling } = database;
  expect((await examined(polling)).findings).toEqual([]);
});

// Commands.

test("examine() tells of queues that nobody serves and of what is overdue there", async () => {
  const { push, pauseQueue, stop } = await working();
  await push(job(undefined, { queue: "mail", delayMs: minute }));
  expect(await only("queue_without_workers")).toMatchObject({
    severity: "warning",
    figures: { queue: "mail", commands: 1, pending: 0 },
  });
  await push([job(undefined, { queue: "mail" }), job(undefined, { queue: "mail" })]);
  expect(await only("queue_without_workers")).toMatchObject({
    severity: "error",
    figures: { commands: 3, pending: 2 },
  });
  expect(await found("overdue_commands")).toEqual([]);
  const limits = { overdueMs: 0 };
  expect(await only("overdue_commands", { limits })).toMatchObject({
    figures: { queue: "mail", pending: 2, workers: 0 },
  });
  await pauseQueue("mail");
  expect(await found("overdue_commands", { limits })).toEqual([]);
  // A worker that is lost serves nothing.
  await push(job(undefined, { delayMs: minute }));
  expect((await found("queue_without_workers")).map(({ figures }) => figures.queue)).toEqual(["mail"]);
  await sql`update orchestratum.worker set last_seen_at = last_seen_at - interval '10 minutes'`;
  const unserved = await found("queue_without_workers");
  expect(unserved.map(({ severity, figures }) => [severity, figures.queue])).toEqual([
    ["error", "mail"],
    ["warning", "default"],
  ]);
  await stop();
});

test("examine() tells of leases that are over and that nobody has taken up", async () => {
  const { push } = orchestrate({ handled: false });
  await push(job());
  await sql`select id from orchestratum.claim('gone', '[{"queue": "default", "priority": 5}]', 10, 8000000, 1, 3)`;
  await new Promise((resolve) => setTimeout(resolve, 20));
  const { seen, figures } = await only("expired_leases", { limits: { expiredMs: 10 } });
  expect(seen).toMatch(/^1 lease of queue "default" is over, the first for .*; "gone" is one that held some$/);
  expect(figures).toMatchObject({ queue: "default", expired: 1, worker: "gone" });
  expect(await found("expired_leases")).toEqual([]);
});

test("examine() tells of names without handlers", async () => {
  const unknown = defineCommand({ name: "unknown", version: 3 });
  const orchestrator = await working();
  await orchestrator.push([unknown(), job(undefined, { delayMs: minute })]);
  const { seen, figures } = await only("name_without_handler");
  expect(seen).toMatch(/^1 command named "unknown" version 3 waits, and no worker .*; none ever had$/);
  expect(figures).toEqual({ name: "unknown", version: 3, commands: 1, seen_ms: null });
  await sql`update orchestratum.handler set seen_at = seen_at - interval '10 minutes'`;
  expect((await found("name_without_handler")).map(({ figures: { name } }) => name)).toEqual(["job", "unknown"]);
  await orchestrator.pauseName("unknown");
  expect((await found("name_without_handler")).map(({ figures: { name } }) => name)).toEqual(["job"]);
});

test("examine() tells of commands for which only workers of other queues have a handler", async () => {
  const other = defineCommand({ name: "other" });
  const orchestrator = await working();
  await orchestrator.push([job(undefined, { queue: "mail" }), job(undefined, { delayMs: minute })]);
  // Nobody serves it at all: that is told of by itself.
  expect(await found("handler_elsewhere")).toEqual([]);
  const lacking = createOrchestrator({ database, handlers: [other.handle(() => {})] });
  orchestrators.push(lacking);
  const worker = lacking.startWorker({ queues: ["mail"] });
  await worker.started;
  const { seen, figures, severity } = await only("handler_elsewhere");
  expect(severity).toBe("warning");
  expect(seen).toBe(
    '1 command named "job" version 1 waits in queue "mail", and the workers that have a handler for that serve queue "default" only',
  );
  expect(figures).toEqual({ name: "job", version: 1, queue: "mail", commands: 1, handled_in: '["default"]' });
  expect(await found("name_without_handler")).toEqual([]);
  // One of an older release does not say what it has.
  await sql`update orchestratum.worker set handlers = null where id = ${worker.id}`;
  expect(await found("handler_elsewhere")).toEqual([]);
});

test("examine() finds nothing where a timer ticks", async () => {
  const orchestrator = orchestrate();
  await orchestrator.push([job(), job(undefined, { delayMs: minute })]);
  expect((await found("queue_without_workers")).map(({ severity }) => severity)).toEqual(["error"]);
  await orchestrator.tick();
  await orchestrator.push(job());
  expect(await examined(database)).toEqual({ findings: [], worst: undefined });
  await sql`update orchestratum.worker set last_seen_at = last_seen_at - interval '16 minutes'`;
  expect((await found("queue_without_workers")).map(({ severity }) => severity)).toEqual(["error"]);
});

test("examine() tells of duties that fail or are late, and not of rescans that have nothing to do", async () => {
  await sql.unsafe("alter function orchestratum.expire_history rename to expired_history");
  const { stop } = await working();
  await eventually(async () => {
    const { seen, figures } = await only("duty_failed");
    expect(seen).toMatch(/^Duty "retention" failed in its last run, .* by worker "worker-.*": /);
    expect(figures).toMatchObject({ duty: "retention", last_error: expect.stringContaining("must contain") });
  });
  await stop();
  expect(await found("duty_late")).toEqual([]);
  await sql`update orchestratum.duty set next_run_at = now() - interval '16 minutes'`;
  const late = (await found("duty_late")).map(({ figures }) => figures.duty);
  expect(late).toContain("statistics");
  expect(late.filter((name) => String(name).startsWith("rescan "))).toEqual([]);
});

// Rights.

test("examine() by a role with few rights notes what it could not look at, and tells of the rest", async () => {
  const { push } = orchestrate({ handled: false });
  await push(job(undefined, { queue: "mail" }));
  const role = `reader_${patients}`;
  await sql.unsafe(`create role ${role} login`);
  const limited = new URL(url);
  limited.username = role;
  {
    await using few = postgresJs(limited.href);
    const { findings, worst } = await examined(few);
    expect(worst).toBe("note");
    expect(findings.map(({ code }) => code)).toEqual(findings.map(() => "not_examined"));
    expect(findings.map(({ figures }) => figures.what)).toEqual(
      expect.arrayContaining(["migrations", "what is due in the queues", "transactions of other roles"]),
    );
  }
  await sql.unsafe(`
    grant usage on schema orchestratum to ${role};
    grant select on all tables in schema orchestratum to ${role}`);
  {
    await using more = postgresJs(limited.href);
    const { findings } = await examined(more);
    expect(findings.map(({ code, figures }) => [code, figures.what ?? figures.queue ?? figures.name])).toEqual([
      ["queue_without_workers", "mail"],
      ["name_without_handler", "job"],
      ["not_examined", "transactions of other roles"],
    ]);
  }
  await sql.unsafe(`grant pg_monitor to ${role}`);
  {
    await using monitor = postgresJs(limited.href);
    expect((await examined(monitor)).findings.map(({ code }) => code)).toEqual([
      "queue_without_workers",
      "name_without_handler",
    ]);
  }
  await sql.unsafe(`drop owned by ${role}; drop role ${role}`);
});

test("examine() throws where there is no database", async () => {
  await using nowhere = postgresJs("postgres://127.0.0.1:1/none");
  await expect(examine(nowhere)).rejects.toThrow("ECONNREFUSED");
});
