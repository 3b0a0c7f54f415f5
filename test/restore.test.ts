/** What an older state of a database does when it goes on: a backup that was restored, a standby that was behind. */

import { CommandConflictError, createOrchestrator, defineCommand, type Orchestrator } from "orchestratum";
import { postgresJs } from "orchestratum/postgres-js";
import postgres from "postgres";
import { afterAll, expect, test, vi } from "vitest";
import { createDatabase, databasePrefix, serverVariable, withServer } from "./database.ts";

const ends: (() => Promise<unknown>)[] = [];
afterAll(async () => {
  for (const end of ends.toReversed()) await end();
});

const once = defineCommand({ name: "once", retries: 0 });
const again = defineCommand({ name: "again", retries: 2 });
const fails = defineCommand({ name: "fails", retries: 0 });

/** A state of a database, as it is now: nobody is connected to it, nor will be. */
async function copyOf(url: URL, name: string): Promise<URL> {
  const server = process.env[serverVariable] as string;
  await withServer(server, async (sql) => {
    const from = url.pathname.slice(1);
    await sql`select pg_terminate_backend(pid) from pg_stat_activity where datname = ${from}`;
    await sql.unsafe(`create database ${name} template ${from}`);
  });
  ends.push(() => withServer(server, (sql) => sql.unsafe(`drop database ${name} with (force)`)));
  return new URL(`/${name}`, url);
}

test("after a restore what was leased runs again, what has ended stays, and every id is known", async () => {
  const database = await createDatabase();
  ends.push(() => database.drop());
  const oldSql = postgres(database.url, { onnotice: () => {} });
  const held = new Set<string>();
  const hold = async ({ id, signal }: { readonly id: string; readonly signal: AbortSignal }): Promise<void> => {
    held.add(id);
    await new Promise((resolve) => signal.addEventListener("abort", resolve));
  };
  const before = createOrchestrator({
    // A listener would connect again, and keep the copy from being made.
    database: postgresJs(oldSql, { listen: false }),
    handlers: [
      again.handle(async (context) => {
        if (context.input !== "quick") await hold(context);
      }),
      once.handle(hold),
      fails.handle(() => {
        throw new Error("The mailbox is full");
      }),
    ],
  });
  ends.push(() => before.stop({ graceMs: 0 }));
  before.startWorker();

  const done = await before.push(again("quick"));
  const failed = await before.push(fails());
  await Promise.all([before.waitFor(done.id), before.waitFor(failed.id)]);
  const waits = await before.push(again("waits", { queue: "later" }));
  const scheduled = await before.push(again("scheduled", { delayMs: 3_600_000 }));
  const leased = await before.push(again("leased"));
  const leasedOnce = await before.push(once("leased"));
  await vi.waitFor(() => expect(held).toEqual(new Set([leased.id, leasedOnce.id])), 20_000);

  await oldSql.end({ timeout: 0 });
  await database.sql.end();
  const url = await copyOf(new URL(database.url), `${databasePrefix}${process.pid}_restored`);
  const newSql = postgres(url.href, { onnotice: () => {} });
  ends.push(() => newSql.end({ timeout: 1 }));
  const ran: string[] = [];
  const run = ({ id }: { readonly id: string }): void => void ran.push(id);
  const after = createOrchestrator({
    database: postgresJs(newSql),
    handlers: [again.handle(run), once.handle(run), fails.handle(run)],
  });
  ends.push(() => after.stop());

  // A push that is repeated meets what is there, wherever it is by now.
  const repeat = (orchestrator: Orchestrator, input: string, id: string) => orchestrator.push(again(input, { id }));
  for (const [input, { id }] of Object.entries({ quick: done, waits, scheduled, leased })) {
    expect((await repeat(after, input, id)).id).toBe(id);
    await expect(repeat(after, "another", id)).rejects.toBeInstanceOf(CommandConflictError);
  }

  expect(await after.get(leased.id)).toMatchObject({ status: "running", attempt: 1 });
  // As if the leases had gone by.
  await newSql`update orchestratum.command set available_at = now() where leased_by is not null`;
  after.startWorker({ queues: ["default", "later"] });
  expect(await after.waitFor(waits.id)).toMatchObject({ status: "succeeded" });
  expect(await after.waitFor(leased.id)).toMatchObject({ status: "succeeded" });
  expect(await after.get(leased.id)).toMatchObject({ attempt: 2, losses: 1 });
  // At most once is at most once.
  expect(await after.waitFor(leasedOnce.id)).toMatchObject({ status: "failed", error: { code: "lost" } });
  expect(await after.get(done.id)).toMatchObject({ status: "succeeded" });
  expect(await after.get(failed.id)).toMatchObject({ status: "failed" });
  expect(await after.get(scheduled.id)).toMatchObject({ status: "scheduled" });
  expect(ran.toSorted()).toEqual([waits.id, leased.id].toSorted());

  // What was pushed after the copy was made is not there, and is when it is pushed again.
  const lost = "01999f3e-7c1b-7000-8000-000000000001";
  expect(await after.get(lost)).toBe(undefined);
  await repeat(after, "lost", lost);
  expect(await after.waitFor(lost)).toMatchObject({ status: "succeeded" });
});
