/** What each role of sql/roles.sql may do, and may not. On a server of its own: roles belong to all its databases. */

import { readFileSync } from "node:fs";
import postgres from "postgres";
import { afterAll, beforeAll, expect, test, vi } from "vitest";
import { postgresJs } from "../adapters/postgres-js.ts";
import {
  createOrchestrator,
  defineCommand,
  defineEvent,
  migrate,
  migrateDown,
  type Orchestrator,
  subscribe,
} from "../src/index.ts";
import { queries } from "../src/sql.generated.ts";
import { type Postgres, startPostgres } from "./postgres.ts";

const roles = readFileSync(new URL("../sql/roles.sql", import.meta.url), "utf8");
const names = ["reader", "producer", "worker", "owner"] as const;
type Name = (typeof names)[number];

const job = defineCommand({ name: "job" });
const happened = defineEvent({ topic: "roles.events.happened" });

let server: Postgres;
let admin: postgres.Sql;
/** Kept by nobody: what acts need. */
let waiting: string;

const as = (name: Name): string => {
  const url = new URL(server.url);
  url.username = `some_${name}`;
  return url.href;
};

beforeAll(async () => {
  server = await startPostgres();
  admin = postgres(server.url, { max: 1, onnotice: () => {} });
  await using database = postgresJs(server.url);
  await migrate(database);
  await admin.unsafe(roles);
  // It may be run again.
  await admin.unsafe(roles);
  for (const name of names) await admin.unsafe(`create role some_${name} login in role orchestratum_${name}`);
  await admin.unsafe("alter role some_owner set role orchestratum_owner");
}, 120_000);
afterAll(async () => {
  await admin.end();
  await server.stop();
});

type Deed = (orchestrator: Orchestrator, sql: postgres.Sql) => Promise<unknown>;

/** What is tried, and who may do it. */
const matrix: readonly (readonly [what: string, may: readonly Name[], deed: Deed])[] = [
  ["read a command", ["reader", "producer", "worker", "owner"], ({ get }) => get(waiting)],
  [
    "list, and explain",
    ["reader", "producer", "worker", "owner"],
    async ({ list, explain }) => [await list(), await explain(waiting)],
  ],
  ["read statistics", ["reader", "producer", "worker", "owner"], ({ stats }) => stats()],
  [
    "read workers and duties",
    ["reader", "producer", "worker", "owner"],
    async (one) => [await one.workerList(), await one.duties()],
  ],
  ["push", ["producer", "worker", "owner"], ({ push }) => push(job(undefined, { queue: "pushed" }))],
  [
    "push what was pushed before",
    ["producer", "worker", "owner"],
    ({ push }) => push(job(undefined, { id: waiting, queue: "waiting" })),
  ],
  [
    "wait for an end",
    ["producer", "worker", "owner"],
    // What waitFor() asks, without waiting: it would take a refusal that comes late for a command that has not ended.
    async (_, sql) => {
      const [row] = await sql.unsafe(queries.waitFor, [JSON.stringify([waiting])]);
      expect(row).toMatchObject({ id: waiting, result: "waiting" });
    },
  ],
  ["publish", ["producer", "worker", "owner"], ({ publish }) => publish(happened({}))],
  ["append to a stream", ["producer", "worker", "owner"], ({ append }) => append("some stream", [happened({})])],
  [
    "act",
    ["worker", "owner"],
    async (one) => [await one.pauseQueue("idle"), await one.resumeQueue("idle"), await one.cancel(waiting)],
  ],
  [
    "claim",
    ["worker", "owner"],
    (_, sql) => sql`select id from orchestratum.claim('w', '[{"queue": "none", "priority": 5}]', 1, 1000, 1000)`,
  ],
  [
    "delete commands by hand",
    ["producer", "worker", "owner"],
    (_, sql) => sql`delete from orchestratum.command where queue = 'none'`,
  ],
  ["empty history", ["worker", "owner"], (_, sql) => sql`select orchestratum.expire_history()`],
  [
    "empty events",
    ["worker", "owner"],
    async (_, sql) => {
      await admin`update orchestratum.setting set keep_events = '1 hour'`;
      await admin`
        insert into orchestratum.event (id, slot, topic, appended_at)
        values (gen_random_uuid(), 3, 'roles.events.old', now() - interval '2 days')`;
      try {
        const [emptied] = await sql`select orchestratum.expire_events() as slot`;
        expect(emptied?.slot).toBe(3);
      } finally {
        await admin`update orchestratum.setting set keep_events = null`;
      }
    },
  ],
  ["change an event", ["owner"], (_, sql) => sql`update orchestratum.event set data = null where topic = 'roles.none'`],
  ["delete an event", ["owner"], (_, sql) => sql`delete from orchestratum.event_0 where topic = 'roles.none'`],
  [
    "change an event's place in the log",
    ["owner"],
    (_, sql) => sql`update orchestratum.event_position_0 set position = 0 where position < 0`,
  ],
  ["change retention", ["owner"], (_, sql) => sql`update orchestratum.setting set keep_other = '31 days'`],
  [
    "say that something was migrated",
    ["owner"],
    (_, sql) => sql`delete from orchestratum.migration where version = 99999`,
  ],
  ["truncate a table", ["owner"], (_, sql) => sql`truncate orchestratum.statistic`],
  ["drop a table", ["owner"], (_, sql) => sql.unsafe("begin; drop table orchestratum.act; rollback")],
];

test.each(matrix)("who may %s", async (_, may, deed) => {
  waiting = crypto.randomUUID();
  await admin`
    insert into orchestratum.command (id, name, version, queue, priority, due_at, available_at, max_attempts, timeout_ms, created_at)
    values (${waiting}, 'job', 1, 'waiting', 5, now(), now(), 4, 60000, now())`;
  const did: Name[] = [];
  for (const name of names) {
    const sql = postgres(as(name), { max: 1, onnotice: () => {} });
    const orchestrator = createOrchestrator({ database: postgresJs(sql, { listen: false }), commands: [job] });
    try {
      await deed(orchestrator, sql);
      did.push(name);
    } catch (error) {
      expect((error as { code?: string }).code, `${name}: ${error}`).toBe("42501");
    } finally {
      await orchestrator.stop();
      await sql.end();
    }
  }
  expect(did).toEqual(may);
});

test("a worker works and does its duties with the rights of its role", async () => {
  const sql = postgres(as("worker"), { max: 4, onnotice: () => {} });
  const troubles: unknown[] = [];
  const delivered: string[] = [];
  const read: string[] = [];
  const orchestrator = createOrchestrator({
    database: postgresJs(sql),
    handlers: [
      job.handle(({ publish }) => void publish(happened({}))),
      subscribe({ name: "follows", to: happened, handler: ({ event }) => void delivered.push(event.id) }),
    ],
    observe: (observation) => {
      if (observation.type === "database_trouble" || observation.type === "internal_error") troubles.push(observation);
    },
  });
  await orchestrator.startWorker().started;
  const { id } = await orchestrator.push(job());
  expect(await orchestrator.waitFor(id, { timeoutMs: 20_000 })).toMatchObject({ status: "succeeded" });
  orchestrator.startReader({ name: "reads", handle: (events) => void read.push(...events.map((event) => event.id)) });
  await vi.waitFor(
    () => {
      expect(delivered).toHaveLength(1);
      expect(read).toContain(delivered[0]);
    },
    { timeout: 20_000 },
  );
  const until = performance.now() + 20_000;
  for (;;) {
    const duties = await orchestrator.duties();
    expect(duties.filter(({ lastError }) => lastError !== undefined)).toEqual([]);
    if (duties.find(({ name }) => name === "retention")?.lastFinishedAt !== undefined) break;
    if (performance.now() > until) throw new Error("Retention is not done within 20 s");
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  await orchestrator.stop();
  await sql.end();
  expect(troubles).toEqual([]);
});

test("the owner migrates, and everybody may then do what they might before", async () => {
  const sql = postgres(as("owner"), { max: 1, onnotice: () => {} });
  const database = postgresJs(sql);
  // The newest three, so that tables are made anew: theirs are default privileges.
  for (let step = 0; step < 3; step++) await migrateDown(database);
  expect((await migrate(database)).applied.length).toBe(3);
  await sql.end();
  const owners = await admin<{ owner: string }[]>`
    select distinct x.owner
    from (
      select c.relowner::regrole::text as owner from pg_class c where c.relnamespace = 'orchestratum'::regnamespace
      union all
      select p.proowner::regrole::text from pg_proc p where p.pronamespace = 'orchestratum'::regnamespace
    ) x`;
  expect(owners.map(({ owner }) => owner)).toEqual(["orchestratum_owner"]);
  const worker = postgres(as("worker"), { max: 1, onnotice: () => {} });
  await worker`select orchestratum.expire_history()`;
  await worker`delete from orchestratum.worker`;
  await expect(worker`update orchestratum.setting set keep_other = '31 days'`).rejects.toMatchObject({ code: "42501" });
  await worker.end();
  const reader = postgres(as("reader"), { max: 1, onnotice: () => {} });
  await reader`select id from orchestratum.all_workers`;
  await expect(reader`delete from orchestratum.worker`).rejects.toMatchObject({ code: "42501" });
  await reader.end();
});
