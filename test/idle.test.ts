/**
 * What a worker asks for while nothing is due: nothing, as the server tells, so that one that sleeps when it is left
 * alone can sleep. The process's clock runs twenty times as fast here, and a minute of it takes three seconds.
 */

import { afterAll, beforeAll, expect, test } from "vitest";
import { postgresJs } from "../adapters/postgres-js.ts";
import {
  createOrchestrator,
  type Driver,
  defineCommand,
  type Observation,
  type Orchestrator,
  type WorkerOptions,
} from "../src/index.ts";
import { createDatabase, type Database } from "./database.ts";
import { faulty } from "./faulty-driver.ts";
import { hurriedClock } from "./hurried-clock.ts";

const times = 20;
const minuteMs = 60_000;
const fast = hurriedClock(times);
const minutes = (count: number): Promise<void> =>
  new Promise((resolve) => setTimeout(resolve, (count * minuteMs) / times));

let database: Database;
beforeAll(async () => {
  database = await createDatabase({ max: 2 });
  // Retention as often as it can be: every minute.
  await database.sql`update orchestratum.setting set keep_succeeded = '1 hour'`;
});
afterAll(() => database.drop());

const job = defineCommand({ name: "job" });

interface Fleet extends AsyncDisposable {
  readonly orchestrators: readonly Orchestrator[];
  readonly observations: readonly Observation[];
  /** Statements that the server sees of these workers within `count` minutes from now on; of a rush not every one. */
  statements(count: number): Promise<string[]>;
}

let fleets = 0;

/** Workers that have had work, and have nothing more to do. */
async function idleFleet(size: number, options: WorkerOptions, adapt = (driver: Driver) => driver): Promise<Fleet> {
  const name = `idle_${++fleets}`;
  const connections = Array.from({ length: size }, () =>
    postgresJs(database.url, { max: 4, connection: { application_name: name } }),
  );
  const observations: Observation[] = [];
  const orchestrators = connections.map((connection) =>
    createOrchestrator({
      database: adapt(connection),
      handlers: [job.handle(() => {})],
      clock: fast,
      observe: (observation) => void observations.push(observation),
    }),
  );
  const [first] = orchestrators as [Orchestrator];
  // By this clock a rescan takes twenty times as long; fifty times that, by the database's, it would be asked for in vain.
  const own = { rescanBudget: 1, queues: [name] };
  for (const orchestrator of orchestrators) await orchestrator.startWorker({ ...options, ...own }).started;
  const pushed = await first.push(Array.from({ length: 20 }, () => job(undefined, { queue: name })));
  await first.waitFor(pushed.map(({ id }) => id));
  return {
    orchestrators,
    observations,
    async statements(count) {
      const seen = new Map<string, string>();
      const [{ since }] = await database.sql<[{ since: string }]>`select clock_timestamp()::text as since`;
      const until = performance.now() + (count * minuteMs) / times;
      while (performance.now() < until) {
        const rows = await database.sql<{ pid: number; started: string; query: string }[]>`
          select pid, query_start::text as started, query from pg_stat_activity
          where application_name = ${name} and query_start > ${since}::text::timestamptz`;
        for (const { pid, started, query } of rows) seen.set(`${pid} ${started}`, query);
        await new Promise((resolve) => setTimeout(resolve, 10));
      }
      return [...seen.values()];
    },
    async [Symbol.asyncDispose]() {
      await Promise.all(orchestrators.map((orchestrator) => orchestrator.stop({ graceMs: 0 })));
      await Promise.all(connections.map((connection) => connection.close({ timeoutMs: 0 })));
    },
  };
}

test("workers with nothing due ask nothing until idlePollMs is over, and then once", async () => {
  await using fleet = await idleFleet(2, { idlePollMs: 9 * minuteMs });
  // What follows the last command: one rescan, statistics as far as they lag, and all is quiet.
  await minutes(4);
  expect(fleet.observations).toContainEqual({ type: "listening", proven: true });
  expect(await fleet.statements(3)).toEqual([]);
  // It was no matter of dead connections: the poll comes.
  expect(await fleet.statements(4)).not.toEqual([]);
});

test("a worker that idles is woken by a push, and by what becomes due", async () => {
  await using fleet = await idleFleet(1, { idlePollMs: 600 * minuteMs });
  await minutes(3);
  const [orchestrator] = fleet.orchestrators as [Orchestrator];
  const other = createOrchestrator({ database: postgresJs(database.sql), commands: [job] });
  const queue = orchestrator.workers[0]?.queues[0] as string;
  const [now, later] = await other.push([job(undefined, { queue }), job(undefined, { queue, delayMs: 2_000 })]);
  expect(await other.waitFor(now.id, { timeoutMs: 20_000 })).toMatchObject({ status: "succeeded" });
  expect(await other.waitFor(later.id, { timeoutMs: 20_000 })).toMatchObject({ status: "succeeded" });
  await other.stop();
});

test("a worker that knows when something is due asks nothing until then", async () => {
  const queue = "scheduled";
  const driver = faulty(postgresJs(database.sql));
  const heard: Observation[] = [];
  // By the platform's clock, as the database goes by.
  const orchestrator = createOrchestrator({
    database: driver,
    handlers: [job.handle(() => {})],
    observe: (observation) => void heard.push(observation),
  });
  await orchestrator.startWorker({ queues: [queue], idlePollMs: 10 * minuteMs }).started;
  await expect.poll(() => heard, { timeout: 20_000 }).toContainEqual({ type: "listening", proven: true });
  const other = createOrchestrator({ database: postgresJs(database.sql), commands: [job] });
  const pushedAt = performance.now();
  const { id } = await other.push(job(undefined, { queue, delayMs: 8_000 }));
  await new Promise((resolve) => setTimeout(resolve, 3_000));
  const before = driver.sent.length;
  await new Promise((resolve) => setTimeout(resolve, 3_000));
  expect(driver.sent.slice(before).map(({ text }) => text)).toEqual([]);
  expect(await other.waitFor(id, { timeoutMs: 20_000 })).toMatchObject({ status: "succeeded" });
  expect(performance.now() - pushedAt).toBeGreaterThan(7_900);
  await other.stop();
  await orchestrator.stop();
});

test("without notifications a worker that idles polls", async () => {
  await using fleet = await idleFleet(1, { idlePollMs: 12 * minuteMs }, ({ listen: _, ...driver }) => driver);
  await minutes(1);
  expect((await fleet.statements(2)).length).toBeGreaterThan(10);
});
