/** The commands that tell of the fleet, and why things stand still: each as a process of its own, as an operator runs it. */

import { createOrchestrator, defineCommand, type Orchestrator } from "orchestratum";
import { postgresJs } from "orchestratum/postgres-js";
import { afterAll, beforeAll, expect, test } from "vitest";
import { createDatabase, type Database } from "../database.ts";
import * as cli from "./cli-process.ts";

const run = (args: string[], url = database.url) => cli.run(args, { env: { DATABASE_URL: url } });

const unknownId = "01999f3e-7c1b-7000-8000-3f2a9f0e6d11";
const secret = "secret-of-ada";
const greet = defineCommand({ name: "greet", queue: "mail", retries: 0 });

let database: Database;
let orchestrator: Orchestrator;

beforeAll(async () => {
  database = await createDatabase();
  orchestrator = createOrchestrator({
    database: postgresJs(database.sql),
    instance: "ada",
    handlers: [
      greet.handle(({ input }) => {
        if (input === "fail") throw new Error("The mailbox is\n\x1b[31mfull");
      }),
    ],
  });
  await orchestrator.startWorker({ queues: ["mail"], concurrency: 7, runtime: "node 24.1.0", host: "machine-1" })
    .started;
});
afterAll(async () => {
  await orchestrator.stop();
  await database.drop();
});

test("doctor finds nothing in a database that is well, and its exit code is the worst finding", async () => {
  // On a busy machine a notification may take so long that it finds a listener silent.
  await expect
    .poll(() => run(["doctor"]), { timeout: 60_000 })
    .toEqual({ code: 0, stdout: "Nothing was found\n", stderr: "" });
  const later = await orchestrator.push(greet(secret, { queue: "other", delayMs: 60_000 }));
  const warned = await run(["doctor"]);
  expect(warned).toMatchObject({ code: 6, stderr: "" });
  expect(warned.stdout).toMatch(
    /^warning: No worker that runs serves queue "other", .* \(queue_without_workers\)\n {2}Start a worker with queues: \["other"\]/m,
  );
  await orchestrator.push(greet(secret, { queue: "other" }));
  const ailing = await run(["doctor", "--json"]);
  expect(ailing.code).toBe(7);
  expect(JSON.parse(ailing.stdout)).toMatchObject({
    worst: "error",
    findings: expect.arrayContaining([
      expect.objectContaining({
        code: "queue_without_workers",
        figures: expect.objectContaining({ queue: "other", commands: 2, pending: 1 }),
      }),
    ]),
  });
  expect(warned.stdout + ailing.stdout).not.toContain(secret);
  await orchestrator.cancel({ queue: "other" });
  expect(later.id).toBeDefined();
  await using empty = await createDatabase({ migrated: false });
  expect(await run(["doctor"], empty.url)).toMatchObject({
    code: 7,
    stdout: expect.stringMatching(
      /^error: Schema "orchestratum" is not there \(not_migrated\)\n {2}Run `orchestratum migrate`/,
    ),
  });
});

test("workers lists those that run and those that are lost, and duties", async () => {
  await database.sql`
    insert into orchestratum.worker (id, queues, concurrency, running, lost_after_ms, started_at, last_seen_at)
    values ('gone', '{mail}', 1, 0, 90000, now() - interval '2 hours', now() - interval '1 hour')`;
  const { code, stdout } = await run(["workers"]);
  expect(code).toBe(0);
  expect(stdout).toMatch(/^worker +status +running +of/m);
  expect(stdout).toMatch(/^ada-\S+ +running +0 +7 .* mail,ada +machine-1 +node 24\.1\.0 /m);
  expect(stdout).toMatch(/^gone +lost .* 2 h ago +1 h ago$/m);
  expect(stdout).toMatch(/^retention .* ago .* in \d+ (?:min|h) +ada-/m);
  const { workers, duties } = JSON.parse((await run(["workers", "--json"])).stdout);
  expect(workers).toMatchObject([
    { instance: "ada", status: "running", queues: ["mail", "ada"] },
    { id: "gone", status: "lost" },
  ]);
  expect(duties.map(({ name }: { name: string }) => name)).toContain("retention");
  await database.sql`delete from orchestratum.worker where id = 'gone'`;
});

test("explain says why a command is not running, and knows no other one", async () => {
  const { id } = await orchestrator.push(greet(secret, { delayMs: 60_000 }));
  const { code, stdout } = await run(["explain", id.toUpperCase()]);
  expect(code).toBe(0);
  expect(stdout).toMatch(/^It is scheduled for 20.*Z: wait, or reschedule it\.\n$/);
  const document = JSON.parse((await run(["explain", id, "--json"])).stdout);
  expect(document).toMatchObject({ id, cause: "scheduled", status: "scheduled", queue: "mail" });
  const failed = await orchestrator.push(greet("fail"));
  await orchestrator.waitFor(failed.id);
  const told = await run(["explain", failed.id]);
  expect(told.stdout).toMatch(
    /^It failed at .*Z \(error: The mailbox is \[31mfull\): put right what was wrong, and retry it\.\n$/,
  );
  expect(stdout + told.stdout + JSON.stringify(document)).not.toContain(secret);
  expect(await run(["explain", unknownId])).toMatchObject({ code: 3, stdout: "" });
  await orchestrator.cancel(id);
});

test.each([
  [["explain"], "one id is wanted, got 0"],
  [["explain", "7"], 'an id must be a UUID, got "7"'],
  [["workers", "mail"], 'it takes options only, got "mail"'],
  [["doctor", "--jsn"], 'there is no option "--jsn"; did you mean "--json"?'],
])("orchestratum %j is misuse: exit code 2 and the way out", async (args, reason) => {
  const { code, stdout, stderr } = await run(args);
  expect({ code, stdout }).toEqual({ code: 2, stdout: "" });
  expect(stderr).toContain(reason);
});
