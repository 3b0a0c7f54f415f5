/** The duty that counts what has finished: that it does, and that it rests. */

import * as v from "valibot";
import { afterEach, beforeEach, expect, test } from "vitest";
import { postgresJs } from "../adapters/postgres-js.ts";
import {
  type Clock,
  createOrchestrator,
  type Driver,
  defineCommand,
  type Orchestrator,
  systemClock,
  type WorkerOptions,
} from "../src/index.ts";
import { eventually } from "./conformance.ts";
import { createDatabase, type Database } from "./database.ts";
import { hurriedClock } from "./hurried-clock.ts";

const job = defineCommand({ name: "job", input: v.number() });

let database: Database;
let orchestrator: Orchestrator | undefined;
/** The duties that the database was asked for, each time. */
let asked: string[];

beforeEach(async () => {
  database = await createDatabase({ max: 4 });
  asked = [];
});

afterEach(async () => {
  await orchestrator?.stop({ graceMs: 0 });
  await database.drop();
});

async function working(clock: Clock, options: WorkerOptions): Promise<Orchestrator> {
  const inner = postgresJs(database.sql);
  const driver: Driver = {
    ...inner,
    query(text, params, options) {
      if (text.includes("where d.name in (select json_array_elements_text($2")) asked.push(String(params[1]));
      return inner.query(text, params, options);
    },
  };
  orchestrator = createOrchestrator({ database: driver, handlers: [job.handle(() => {})], clock });
  await orchestrator.startWorker(options).started;
  return orchestrator;
}

const askedForStatistics = (): number => asked.filter((names) => names.includes('"statistics"')).length;

const countedJobs = async (): Promise<number> => {
  const [row] = await database.sql<{ count: number }[]>`
    select coalesce(sum(s.count), 0)::int as count from orchestratum.statistic s where s.span = 60 and s.name = 'job'`;
  return row?.count ?? 0;
};

/** So many jobs that have ended, 10 ms after one another, the last so long ago. */
const ended = (count: number, interval: string) =>
  database.sql`
    insert into orchestratum.history (
      slot, id, name, version, queue, priority, status, due_at, fence, attempt, max_attempts, losses, timeout_ms,
      worker, started_at, finished_at, created_at
    )
    select n % 16, gen_random_uuid(), 'job', 1, 'default', 5, 'succeeded', t.at, 1, 1, 4, 0, 60000, 'w', t.at, t.at, t.at
    from generate_series(1, ${count}::int) n
    cross join lateral (select now() - ${interval}::text::interval - n * interval '10 ms' as at) t`;

test("a worker counts what has finished before it came", async () => {
  await ended(120_000, "2 minutes");
  await working(systemClock, { idlePollMs: 60_000, pollIntervalMs: 60_000, leaseMs: 60_000 });
  // Three steps, in one run.
  await eventually("all are counted", async () => (await countedJobs()) === 120_000);
});

test("a worker at rest does not ask for the duty, and one that ends a command does", async () => {
  const clock = hurriedClock(50);
  // What has ended within the time of a lease is not counted yet; a shorter one would be over in a second.
  const leaseMs = 600_000;
  const worker = await working(clock, { idlePollMs: 3_600_000, pollIntervalMs: 3_600_000, leaseMs });
  await eventually("it was asked for", () => askedForStatistics() > 0);
  await eventually(
    "nothing was left to count",
    async () =>
      (await database.sql`select from orchestratum.duty where name = 'statistics' and last_finished_at is not null`)
        .length === 1,
  );
  const before = askedForStatistics();
  // While it rests there is something to count: all that it lacks is a reason to ask.
  await ended(1, "1 hour");
  await database.sql.unsafe(`
    update orchestratum.statistic_fold set folded_until = null;
    update orchestratum.duty set next_run_at = clock_timestamp() where name = 'statistics'`);
  // Two minutes by its clock: without work it would rest for an hour.
  await new Promise<void>((resolve) => clock.after(120_000, resolve));
  expect(askedForStatistics()).toBe(before);

  // By the platform's clock, which has more patience. Of what it pushes only a notification would tell.
  const other = createOrchestrator({ database: postgresJs(database.sql), commands: [job] });
  const { id } = await other.push(job(1));
  worker.wake(["default"]);
  await other.waitFor(id);
  await other.stop();
  await eventually("it is asked for again", () => askedForStatistics() > before);
  await eventually("what had ended is counted", async () => (await countedJobs()) === 1);
});
