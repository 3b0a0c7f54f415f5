import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import postgres from "postgres";
import { afterEach, beforeEach, expect, test } from "vitest";
import { postgresJs } from "../../adapters/postgres-js.ts";
import { createOrchestrator, type Explanation, type Orchestrator, type WorkerOptions } from "../../src/index.ts";
import { createDatabase, type Database } from "../database.ts";
import { startPostgres } from "../postgres.ts";
import { handlersWith, sleep, suicide, transfer, work } from "./commands.ts";
import { endWorkerProcesses, startWorkerProcess, type WorkerProcess } from "./worker-processes.ts";

let folder: string;
let log: string;
let database: Database | undefined;
let orchestrator: Orchestrator;

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "orchestratum-processes-"));
  log = join(folder, "starts");
  writeFileSync(log, "");
});

afterEach(async () => {
  await endWorkerProcesses();
  await orchestrator?.stop();
  await database?.drop();
  rmSync(folder, { recursive: true });
});

/** A database, an orchestrator that only pushes, and the means to start workers on it. */
async function ground(options: WorkerOptions) {
  database = await createDatabase({ max: 4 });
  const { url, sql } = database;
  orchestrator = createOrchestrator({ database: postgresJs(sql), commands: [work, sleep, suicide, transfer] });
  const start = async (more: WorkerOptions = {}): Promise<WorkerProcess> => {
    const worker = startWorkerProcess({ url, log, worker: { ...options, ...more } });
    await worker.observed("worker_started");
    return worker;
  };
  return { sql, start };
}

/** How often each command was started: id to fences. */
function starts(): Map<string, number[]> {
  const found = new Map<string, number[]>();
  for (const line of readFileSync(log, "utf8").split("\n")) {
    const [id, fence] = line.split(" ");
    if (id && fence) found.set(id, [...(found.get(id) ?? []), Number(fence)]);
  }
  return found;
}

/** The invariants that a database can be asked for, after everything has ended. */
async function expectConsistent(sql: postgres.Sql, pushed: number): Promise<void> {
  const [facts] = await sql`
    select
      (select count(*)::int from orchestratum.command) as live,
      (select count(*)::int from orchestratum.history where name = 'work') as works,
      (select count(distinct id)::int from orchestratum.history where name = 'work') as distinct_works,
      (select count(*)::int from orchestratum.history h join orchestratum.command c using (id)) as both,
      (select count(*)::int from orchestratum.history where status <> 'succeeded') as not_succeeded,
      (select count(*)::int from orchestratum.history where name = 'after') as afters,
      (select count(distinct parent_id)::int from orchestratum.history where name = 'after') as parents,
      (select count(*)::int from orchestratum.history where attempt > max_attempts) as too_often,
      (select count(*)::int from orchestratum.history h
       where (select count(*) from jsonb_array_elements(h.trail) t where t ->> 'code' = 'lost') <> h.losses) as losses_untold`;
  expect(facts).toEqual({
    live: 0,
    works: pushed,
    distinct_works: pushed,
    both: 0,
    not_succeeded: 0,
    afters: pushed,
    parents: pushed,
    too_often: 0,
    losses_untold: 0,
  });
}

async function drained(sql: postgres.Sql, limitMs: number): Promise<void> {
  const until = performance.now() + limitMs;
  for (let left: unknown = "unknown"; ; await new Promise((resolve) => setTimeout(resolve, 50))) {
    try {
      const [row] = await sql`select count(*)::int as left from orchestratum.command`;
      left = row?.left;
    } catch (error) {
      // After a restart a connection of the pool may say only now that it is gone.
      left = error;
    }
    if (left === 0) return;
    if (performance.now() > until) throw new Error(`${left} commands are left after ${limitMs} ms`);
  }
}

test("workers that are killed again and again finish twenty thousand commands, each once", {
  timeout: 240_000,
}, async () => {
  const options = { leaseMs: 3_000, pollIntervalMs: 500, concurrency: 50, maxLosses: 100 };
  const { sql, start } = await ground(options);
  const pushed = 20_000;
  // Who takes a victim's place starts while the others are killed, so that some are at work at each kill.
  const workers = [start(), start(), start(), start()];
  await Promise.all(workers);
  const pushing = orchestrator.push(Array.from({ length: pushed }, (_, index) => work(index)));
  let kills = 0;
  let done = false;
  const killing = (async () => {
    // Ten at least, even where the work is done sooner; and no more than leave time to do it.
    for (let turn = 0; kills < (done ? 10 : 20); turn++) {
      await new Promise((resolve) => setTimeout(resolve, 300));
      const victim = await (workers[turn % workers.length] as Promise<WorkerProcess>);
      await victim.end("SIGKILL");
      kills++;
      workers[turn % workers.length] = start();
    }
    await Promise.all(workers);
  })();
  await pushing;
  await drained(sql, 180_000);
  done = true;
  await killing;
  await expectConsistent(sql, pushed);
  const found = starts();
  const lost = await sql`select id::text, trail from orchestratum.history where losses > 0`;
  const twice = [...found.values()].filter((fences) => fences.length > 1).length;
  console.log(
    `killed ${kills} workers; ${twice} of ${found.size} commands were executed more than once, ${lost.length} lost a lease`,
  );
  // The faults came: somebody was interrupted.
  expect(lost.length).toBeGreaterThan(0);
  // Nobody ran under a fence that somebody else ran under, too.
  for (const fences of found.values()) expect(new Set(fences).size).toBe(fences.length);
  expect(found.size).toBe(2 * pushed);
});

test("explain() tells what became of commands whose workers were killed", { timeout: 120_000 }, async () => {
  const { sql, start } = await ground({ leaseMs: 3_000, pollIntervalMs: 200 });
  const explained = async (id: string, cause: Explanation["cause"], status: Explanation["status"]): Promise<string> => {
    const until = performance.now() + 30_000;
    for (;;) {
      const found = await orchestrator.explain(id);
      if (found?.cause === cause && found.status === status) return found.sentence;
      if (performance.now() > until) throw new Error(`Not ${cause}: ${JSON.stringify(found)}`);
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
  };
  /** A worker that is killed while it runs this. */
  const held = async (options: WorkerOptions): Promise<{ id: string; worker: string }> => {
    const victim = await start({ queues: ["slow"], ...options });
    const { worker } = await victim.observed("worker_started");
    const { id } = await orchestrator.push(sleep({ ms: 600_000 }, { queue: "slow" }));
    while (!starts().has(id)) await new Promise((resolve) => setTimeout(resolve, 10));
    expect(await explained(id, "held", "running")).toContain(`Worker "${worker}" has held it since `);
    await victim.end("SIGKILL");
    return { id, worker };
  };

  const lost = await held({ leaseMs: 600_000 });
  // It might be on its way to say that it is there, until its time is over.
  expect((await orchestrator.explain(lost.id))?.cause).toBe("held");
  await sql`update orchestratum.worker set last_seen_at = last_seen_at - interval '90 seconds' where id = ${lost.worker}`;
  expect(await explained(lost.id, "holder_lost", "running")).toMatch(
    /^Worker ".*" holds it until .*, but was last seen at /,
  );

  const cancelled = await held({ leaseMs: 600_000 });
  expect(await orchestrator.cancel(cancelled.id)).toBe("requested");
  await sql`update orchestratum.command set available_at = clock_timestamp() where id = ${cancelled.id}`;
  expect(await explained(cancelled.id, "cancel_requested", "pending")).toContain("that is not heard of any more");

  const { id: killer } = await orchestrator.push(suicide());
  for (let deaths = 1; deaths <= 2; deaths++) {
    const { child } = await start({ leaseMs: 1_000 });
    if (child.exitCode === null && child.signalCode === null) await once(child, "exit");
    expect(child.signalCode).toBe("SIGKILL");
  }
  // The next one is busy when it comes to it, and runs nothing beside it.
  await orchestrator.pauseQueue("default");
  await start({ queues: ["busy", "default"] });
  const { id: busy } = await orchestrator.push(sleep({ ms: 600_000 }, { queue: "busy" }));
  while (!starts().has(busy)) await new Promise((resolve) => setTimeout(resolve, 10));
  await orchestrator.resumeQueue("default");
  expect(await explained(killer, "alone", "running")).toMatch(
    /^It was lost 2 times, so worker ".*", which holds it until .*, runs it with nothing /,
  );
  expect(starts().get(killer)).toHaveLength(2);
});

test("a worker that stood still beyond its lease writes nothing more and reports the lost lease", {
  timeout: 240_000,
}, async () => {
  const { sql, start } = await ground({ leaseMs: 5_000, pollIntervalMs: 200 });
  const first = await start();
  const { id } = await orchestrator.push(sleep({ ms: 10_000 }));
  while (!starts().has(id)) await new Promise((resolve) => setTimeout(resolve, 10));
  first.child.kill("SIGSTOP");
  const second = await start();
  await orchestrator.waitFor(id, { timeoutMs: 60_000 });
  const [stopped = 0, over = 0, ...more] = starts().get(id) ?? [];
  expect(more).toEqual([]);
  expect(over).toBeGreaterThan(stopped);
  const [before] = await sql`select xmin::text, status, fence, worker from orchestratum.history where id = ${id}`;
  expect(before).toMatchObject({ status: "succeeded", fence: over });
  const abandoned = await second.observed("lease_abandoned");
  expect(abandoned.id).toBe(id);
  expect(abandoned.fence).toBeGreaterThan(stopped);
  first.child.kill("SIGCONT");
  const lost = await first.observed("lease_lost");
  expect(lost).toMatchObject({ id, fence: stopped });
  // It goes on with what comes next, and has left the other's outcome alone.
  await second.end("SIGTERM");
  await orchestrator.waitFor((await orchestrator.push(work(1))).id, { timeoutMs: 60_000 });
  const after = await sql`select xmin::text, status, fence, worker from orchestratum.history where id = ${id}`;
  expect(after).toEqual([before]);
});

test("a command that kills its process ends as lost after three losses, and a hundred others succeed", {
  timeout: 240_000,
}, async () => {
  const { sql, start } = await ground({ leaseMs: 3_000, pollIntervalMs: 200, concurrency: 20 });
  let workers: WorkerProcess[] = await Promise.all([start(), start()]);
  const [bad, ...good] = await orchestrator.push([
    suicide(undefined, { priority: 4 }),
    ...Array.from({ length: 100 }, (_, index) => work(index)),
  ]);
  let ended = false;
  const outcome = orchestrator.waitFor(bad.id, { timeoutMs: 120_000 }).finally(() => {
    ended = true;
  });
  while (!ended) {
    await new Promise((resolve) => setTimeout(resolve, 50));
    workers = await Promise.all(workers.map((worker) => (worker.child.signalCode === null ? worker : start())));
  }
  expect(await outcome).toMatchObject({ status: "failed", error: { code: "lost" } });
  for (const { id } of good) {
    expect(await orchestrator.waitFor(id, { timeoutMs: 30_000 })).toMatchObject({ status: "succeeded" });
  }
  // Not always the first three fences: before it ran alone it may have been handed back unstarted.
  expect(starts().get(bad.id)).toHaveLength(3);
  const [{ losses } = { losses: 0 }] =
    await sql`select max(losses)::int as losses from orchestratum.history where name = 'work'`;
  // Lost twice it runs alone: whoever ran beside it is lost with it at most twice.
  expect(losses).toBeLessThanOrEqual(2);
});

test.each([
  ["killed before COMMIT", 2],
  ["killed after COMMIT", 1],
  ["frozen before COMMIT", 2],
] as const)(
  "a process %s of its finish(db, output): row and outcome are there once, together",
  { timeout: 240_000 },
  async (fate, executed) => {
    const { sql, start } = await ground({ leaseMs: 5_000, pollIntervalMs: 200 });
    await sql`create table transferred (id uuid, fence int)`;
    const first = await start();
    const { id } = await orchestrator.push(transfer(fate));
    while (!starts().has(id)) await new Promise((resolve) => setTimeout(resolve, 10));
    await start();
    expect(await orchestrator.waitFor(id, { timeoutMs: 60_000 })).toMatchObject({ status: "succeeded" });
    expect(starts().get(id)).toHaveLength(executed);
    const expected = { id, fence: starts().get(id)?.at(-1) };
    expect(await sql`select id::text, fence from transferred`).toEqual([expected]);
    if (fate !== "frozen before COMMIT") return;
    // Going on, it finds that its transaction was ended with the lease, and writes nothing.
    const before = await sql`select xmin::text, worker from orchestratum.history where id = ${id}`;
    first.child.kill("SIGCONT");
    await first.observed("lease_lost");
    expect(await sql`select id::text, fence from transferred`).toEqual([expected]);
    expect(await sql`select xmin::text, worker from orchestratum.history where id = ${id}`).toEqual([...before]);
  },
);

test("SIGTERM lets a worker hand back what it holds, and another one that was asleep starts it at once", {
  timeout: 240_000,
}, async () => {
  // Polls are far away: only the hint of what was handed back can wake the other one.
  const { start } = await ground({ leaseMs: 60_000, pollIntervalMs: 60_000, abortGraceMs: 500 });
  const first = await start();
  const { id } = await orchestrator.push(sleep({ ms: 60_000 }));
  while (!starts().has(id)) await new Promise((resolve) => setTimeout(resolve, 10));
  await start();
  await first.end("SIGTERM");
  expect(first.child.exitCode).toBe(0);
  expect(await orchestrator.waitFor(id, { timeoutMs: 20_000 })).toMatchObject({ status: "succeeded" });
  expect(await orchestrator.get(id)).toMatchObject({ attempt: 1, fence: 2, losses: 0 });
});

test("workers survive a restart of PostgreSQL under load, and nothing acknowledged is missing", {
  timeout: 180_000,
}, async () => {
  const server = await startPostgres();
  // A connection lost while postgres.js asks for the types of arrays would end the test run.
  const sql = postgres(server.url, { max: 6, onnotice: () => {}, fetch_types: false });
  orchestrator = createOrchestrator({
    database: postgresJs(sql),
    handlers: handlersWith(log),
  });
  try {
    await orchestrator.migrate();
    const worker = orchestrator.startWorker({ leaseMs: 2_000, pollIntervalMs: 500 });
    await worker.started;
    const acknowledged: string[] = [];
    let refused = 0;
    let pushing = true;
    const pushers = Array.from({ length: 4 }, async () => {
      while (pushing) {
        try {
          acknowledged.push((await orchestrator.push(work(1))).id);
        } catch {
          refused++;
        }
      }
    });
    for (const restart of ["fast", "immediate"] as const) {
      const enough = acknowledged.length + 500;
      while (acknowledged.length < enough) await new Promise((resolve) => setTimeout(resolve, 10));
      await server.restart(restart);
    }
    const enough = acknowledged.length + 500;
    while (acknowledged.length < enough) await new Promise((resolve) => setTimeout(resolve, 10));
    pushing = false;
    await Promise.all(pushers);
    await drained(sql, 60_000);
    const rows = await sql`select id::text from orchestratum.history where name = 'work'`;
    const recorded = new Set(rows.map((row) => row.id as string));
    expect(acknowledged.filter((id) => !recorded.has(id))).toEqual([]);
    // A push that was refused may have been written all the same: its reply was lost.
    expect(rows.length).toBe(recorded.size);
    expect(rows.length).toBeLessThanOrEqual(acknowledged.length + refused);
    await expectConsistent(sql, rows.length);
  } finally {
    await orchestrator.stop({ graceMs: 0 });
    await sql.end({ timeout: 1 });
    await server.stop();
  }
});
