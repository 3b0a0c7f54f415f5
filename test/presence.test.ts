/** How a worker says that it is there: again and again, never to its own harm, and not after it has left. */

import { afterEach, beforeEach, expect, test } from "vitest";
import { postgresJs } from "../adapters/postgres-js.ts";
import {
  type Clock,
  createOrchestrator,
  defineCommand,
  type Observation,
  type Orchestrator,
  systemClock,
} from "../src/index.ts";
import { createDatabase, type Database } from "./database.ts";
import { type Fault, faulty, holdBack } from "./faulty-driver.ts";
import { hurriedClock } from "./hurried-clock.ts";

const job = defineCommand({ name: "job" });

const hurried = hurriedClock(50);

let database: Database;
let orchestrator: Orchestrator | undefined;
let observations: Observation[];

beforeEach(async () => {
  database = await createDatabase({ max: 4 });
  observations = [];
});
afterEach(async () => {
  await orchestrator?.stop({ graceMs: 0 });
  await database.drop();
});

function orchestrate(clock: Clock, ...faults: Fault[]) {
  const driver = faulty(postgresJs(database.sql), ...faults);
  orchestrator = createOrchestrator({
    database: driver,
    handlers: [job.handle(() => {})],
    clock,
    observe: (observation) => void observations.push(observation),
  });
  return { orchestrator, driver };
}

const workers = async (): Promise<{ last_seen_at: Date; stopped_at: Date | null }[]> =>
  await database.sql`select w.last_seen_at, w.stopped_at from orchestratum.worker w`;

const saysIt = /insert into orchestratum\.worker\b/;

async function eventually(look: () => Promise<boolean>): Promise<void> {
  const until = performance.now() + 20_000;
  while (!(await look())) {
    if (performance.now() > until) throw new Error("Not within 20 s");
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

test("a worker says every minute that it is there, and in between says nothing", async () => {
  const said: number[] = [];
  const { orchestrator } = orchestrate(hurried, {
    before(text) {
      if (saysIt.test(text)) said.push(hurried.now());
    },
  });
  await orchestrator.startWorker({ leaseMs: 600_000 }).started;
  await eventually(async () => said.length >= 3);
  // From when it says it, not from when the database has heard it: that may take a while.
  const pauses = said.slice(1).map((at, index) => at - (said[index] as number));
  expect(pauses.filter((ms) => ms < 59_000)).toEqual([]);
});

test("a worker that idles for longer says it with its polls", async () => {
  const { orchestrator, driver } = orchestrate(hurried);
  const worker = orchestrator.startWorker({ idlePollMs: 1_200_000, pollIntervalMs: 1_200_000, leaseMs: 600_000 });
  await worker.started;
  await new Promise<void>((resolve) => hurried.after(130_000, resolve));
  expect(driver.count(saysIt)).toBe(1);
  // What was sent: by this clock the statement may have been given up before the database came to it.
  const said = driver.sent.find(({ text }) => saysIt.test(text));
  expect(JSON.parse(String(said?.params[0]))).toMatchObject({ lost_after_ms: 1_230_000 });
});

test("a worker that cannot say that it is there reports it and works", async () => {
  const { orchestrator } = orchestrate(systemClock);
  await database.sql`drop table orchestratum.worker cascade`;
  await orchestrator.startWorker().started;
  const { id } = await orchestrator.push(job());
  expect(await orchestrator.waitFor(id, { timeoutMs: 20_000 })).toMatchObject({ status: "succeeded" });
  await orchestrator.stop();
  const troubles = observations.filter(({ type }) => type === "database_trouble");
  expect(troubles).toContainEqual(expect.objectContaining({ operation: "registerWorker" }));
});

test("a worker that is stopped while it says that it is there has stopped", async () => {
  const held = holdBack(saysIt);
  const { orchestrator } = orchestrate(systemClock, held);
  const worker = orchestrator.startWorker();
  worker.started.catch(() => {});
  await held.arrived;
  const stopped = worker.stop({ graceMs: 0 });
  await new Promise((resolve) => setTimeout(resolve, 50));
  held.release();
  await stopped;
  expect(await workers()).toEqual([{ last_seen_at: expect.any(Date), stopped_at: expect.any(Date) }]);
});

// Ticks.

const fleet = async () =>
  await database.sql<{ id: string; queues: string[]; lost_after_ms: number; stopped_at: Date | null }[]>`
    select w.id, w.queues, w.lost_after_ms, w.stopped_at from orchestratum.worker w order by w.id`;

/** As if the ticks had been there so long ago. */
const age = (interval: string) =>
  database.sql`update orchestratum.worker set last_seen_at = last_seen_at - ${interval}::text::interval`;

test("ticks that serve the same queues are one worker, from process to process, and say so once a minute", async () => {
  const { orchestrator, driver } = orchestrate(systemClock);
  for (let tick = 0; tick < 3; tick++) await orchestrator.tick({ queues: ["mail", "default"] });
  expect(driver.count(saysIt)).toBe(1);
  for (let tick = 0; tick < 2; tick++)
    await orchestrate(systemClock).orchestrator.tick({ queues: ["default", "mail"] });
  await orchestrate(systemClock).orchestrator.tick({ queues: ["default,mail"] });
  await orchestrate(systemClock).orchestrator.tick();
  expect(await fleet()).toEqual([
    { id: "tick:default", queues: ["default"], lost_after_ms: 900_000, stopped_at: null },
    { id: "tick:default mail", queues: ["mail", "default"], lost_after_ms: 900_000, stopped_at: null },
    { id: "tick:default,mail", queues: ["default,mail"], lost_after_ms: 900_000, stopped_at: null },
  ]);
  const [shown] = await orchestrator.workerList();
  expect(shown).toMatchObject({
    id: "tick:default",
    status: "running",
    running: 0,
    runtime: `node ${process.versions.node}`,
  });
});

test("ticks of one orchestrator are shown for each set of queues that they serve", async () => {
  const { orchestrator, driver } = orchestrate(systemClock);
  for (let minute = 0; minute < 2; minute++) {
    for (const queues of [["a"], ["b"], ["b", "a"], ["a", "b"]]) await orchestrator.tick({ queues });
  }
  expect((await fleet()).map(({ id, queues }) => [id, queues])).toEqual([
    ["tick:a", ["a"]],
    ["tick:a b", ["b", "a"]],
    ["tick:b", ["b"]],
  ]);
  expect(driver.count(saysIt)).toBe(3);
});

test("ticks of many queues with long names are told apart", async () => {
  const { orchestrator } = orchestrate(systemClock);
  const long = (last: string) => [`x${"\u{1F600}".repeat(49)}`, `y${"\u{1F600}".repeat(49)}`, `z${last}`];
  for (const queues of [long("1"), long("2"), long("1").toReversed()]) await orchestrator.tick({ queues });
  const rows = await fleet();
  expect(rows.map(({ queues }) => queues).toSorted()).toEqual([long("1"), long("2")]);
  for (const { id } of rows) expect([...id].length).toBeLessThanOrEqual(200);
  expect(observations.filter(({ type }) => type === "database_trouble")).toEqual([]);
});

test("ticks count as lost when twice as long has gone by as between the last two", async () => {
  const tick = async () => void (await orchestrate(systemClock).orchestrator.tick());
  const lostAfter = async () => (await fleet())[0]?.lost_after_ms;
  await tick();
  // Two at once do not shorten it.
  await tick();
  expect(await lostAfter()).toBe(900_000);
  for (const [interval, ms] of [
    ["1 hour", 3_600_000],
    ["40 seconds", 40_000],
    ["31 seconds", 31_000],
  ] as const) {
    await age(interval);
    const [last] = await database.sql<{ at: string }[]>`select w.last_seen_at::text as at from orchestratum.worker w`;
    await tick();
    // What the test itself took is part of what has gone by.
    const [gone] = await database.sql<{ ms: number }[]>`
      select (1000 * extract(epoch from w.last_seen_at - ${last?.at ?? ""}::text::timestamptz))::float8 as ms
      from orchestratum.worker w`;
    expect(gone?.ms).toBeGreaterThanOrEqual(ms);
    expect(await lostAfter()).toBe(Math.round(2 * (gone?.ms ?? 0) + 30_000));
  }
  await age("10 days");
  await tick();
  expect(await lostAfter()).toBe(172_800_000);
});

test("a tick that cannot say that it is there reports it and works", async () => {
  const { orchestrator } = orchestrate(systemClock);
  await database.sql`drop table orchestratum.worker cascade`;
  await orchestrator.push(job());
  expect(await orchestrator.tick()).toMatchObject({ succeeded: 1 });
  const troubles = observations.filter(({ type }) => type === "database_trouble");
  expect(troubles).toContainEqual(expect.objectContaining({ operation: "registerTick" }));
});
