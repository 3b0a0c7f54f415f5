import { createOrchestrator, defineCommand, type Orchestrator, subscribe } from "orchestratum";
import { type PostgresJsDatabase, postgresJs } from "orchestratum/postgres-js";
import { afterAll, beforeAll, expect, test } from "vitest";
import { hearingOfPause } from "./conformance.ts";
import { createDatabase, type Database } from "./database.ts";

const job = defineCommand({ name: "job" });

let database: Database;
let driver: PostgresJsDatabase;
let orchestrator: Orchestrator;
/** The worker knows that jobs are paused: until then a claim that is under way may run what is pushed. */
let heard: () => Promise<void>;
beforeAll(async () => {
  database = await createDatabase({ max: 1 });
  const { pathname } = new URL(database.url);
  for (const setting of ["timezone = 'Asia/Kolkata'", "datestyle = 'German'", "intervalstyle = 'sql_standard'"]) {
    await database.sql.unsafe(`alter database "${pathname.slice(1)}" set ${setting}`);
  }
  driver = postgresJs(database.url, { max: 4 });
  const hearing = hearingOfPause(driver, "job");
  ({ heard } = hearing);
  orchestrator = createOrchestrator({
    database: hearing.database,
    handlers: [job.handle(() => {}), subscribe({ name: "listener", to: "a.#", handler: () => {} })],
  });
});
afterAll(async () => {
  await orchestrator.stop();
  await driver.close();
  await database.drop();
});

const hourMs = 3_600_000;
/** India is five and a half hours away. */
function isNow(time: Date | undefined): void {
  expect(Math.abs((time?.getTime() ?? 0) - Date.now())).toBeLessThan(hourMs);
}

test("times are right whatever time zone and style of dates a session has", async () => {
  const [session] = await driver.query<{ zone: string }>("select current_setting('timezone') as zone", []);
  expect(session?.zone).toBe("Asia/Kolkata");
  await orchestrator.startWorker().started;
  const { id } = await orchestrator.push(job());
  isNow((await orchestrator.waitFor(id, { timeoutMs: 30_000 })).finishedAt);
  isNow((await orchestrator.get(id))?.createdAt);
  isNow((await orchestrator.list({ name: "job", from: new Date(Date.now() - hourMs) })).commands[0]?.finishedAt);
  isNow((await orchestrator.timeline(id))?.entries[0]?.at);
  isNow((await orchestrator.subscriptions())[0]?.addedAt);
  isNow((await orchestrator.workerList())[0]?.lastSeenAt);
  isNow((await orchestrator.stats()).at);

  await orchestrator.pauseQueue("default", { by: "ada" });
  isNow((await orchestrator.queues()).find(({ queue }) => queue === "default")?.pausedAt);
  isNow((await orchestrator.acts())[0]?.at);
  await orchestrator.resumeQueue("default");

  // A paused name's commands are put off; resuming makes them due, and hints from when.
  await orchestrator.pauseName("job", { by: "ada" });
  isNow((await orchestrator.pausedNames())[0]?.pausedAt);
  await heard();
  const waiting = await orchestrator.push(job());
  await expect.poll(async () => (await orchestrator.get(waiting.id))?.status).toBe("scheduled");
  await orchestrator.resumeName("job");
  expect(await orchestrator.waitFor(waiting.id, { timeoutMs: 30_000 })).toMatchObject({ status: "succeeded" });
});
