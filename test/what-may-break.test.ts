/** What belongs to the user and breaks (telemetry, observers, a transaction that is over) breaks nothing of this library. */

import { BasicTracerProvider, type SpanProcessor } from "@opentelemetry/sdk-trace-base";
import knex from "knex";
import { createOrchestrator, defineCommand } from "orchestratum";
import { knexTransaction } from "orchestratum/knex";
import { nodePostgres } from "orchestratum/node-postgres";
import { openTelemetry } from "orchestratum/opentelemetry";
import { postgresJs } from "orchestratum/postgres-js";
import { Pool } from "pg";
import { afterAll, beforeAll, expect, test } from "vitest";
import { signal } from "./conformance.ts";
import { createDatabase, type Database } from "./database.ts";

const job = defineCommand({ name: "job", retries: 0 });

let database: Database;
beforeAll(async () => {
  database = await createDatabase({ max: 24 });
});
afterAll(() => database.drop());

test.each(["onStart", "onEnd"] as const)(
  "a span processor whose %s throws fails no push and no attempt",
  async (place) => {
    const throwing = (): void => {
      throw new Error("the processor is broken");
    };
    const nothing = async (): Promise<void> => {};
    const processor = {
      ...{ onStart: () => {}, onEnd: () => {}, shutdown: nothing, forceFlush: nothing },
      [place]: throwing,
    } as SpanProcessor;
    const tracerProvider = new BasicTracerProvider({ spanProcessors: [processor] });
    await using orchestrator = createOrchestrator({
      database: postgresJs(database.sql),
      handlers: [job.handle(() => {})],
      telemetry: openTelemetry({ tracerProvider }),
    });
    orchestrator.startWorker();
    const { id } = await orchestrator.push(job());
    expect(await orchestrator.waitFor(id, { timeoutMs: 30_000 })).toMatchObject({ status: "succeeded" });
  },
);

test("an async observer that rejects ends no process", async () => {
  const rejected: unknown[] = [];
  const hear = (error: unknown): void => void rejected.push(error);
  process.on("unhandledRejection", hear);
  await using orchestrator = createOrchestrator({
    database: postgresJs(database.sql),
    handlers: [job.handle(() => {})],
    // It passes for one that gives nothing.
    observe: (async () => {
      throw new Error("the log is full");
    }) as () => void,
  });
  orchestrator.startWorker();
  const { id } = await orchestrator.push(job());
  await orchestrator.waitFor(id, { timeoutMs: 30_000 });
  await new Promise((resolve) => setTimeout(resolve, 50));
  process.off("unhandledRejection", hear);
  expect(rejected).toEqual([]);
});

test("a push behind a transaction of Knex that is over is refused, and not written into another's", async () => {
  const db = knex({ client: "pg", connection: database.url, pool: { min: 1, max: 1 } });
  await using orchestrator = createOrchestrator({ database: postgresJs(database.sql), commands: [job] });
  let over: knex.Knex.Transaction | undefined;
  await db.transaction(async (trx) => {
    over = trx;
    await orchestrator.push(job(), { db: knexTransaction(trx) });
  });
  await expect(orchestrator.push(job(), { db: knexTransaction(over as knex.Knex.Transaction) })).rejects.toThrow(
    "Cannot run a statement: its transaction is complete",
  );
  await db.destroy();
});

test("a session that forgets prepared statements fails one transaction of a client, and not each", async () => {
  const pool = new Pool({ connectionString: database.url, max: 1 });
  await using orchestrator = createOrchestrator({ database: postgresJs(database.sql), commands: [job] });
  const pushed = async (): Promise<string> => {
    const client = await pool.connect();
    try {
      await client.query("begin");
      await orchestrator.push(job(), { db: nodePostgres(client) });
      await client.query("commit");
      // As a pooler between does that gives each transaction another session.
      await client.query("deallocate all");
      return "committed";
    } catch {
      await client.query("rollback");
      return "failed";
    } finally {
      client.release();
    }
  };
  const outcomes: string[] = [];
  for (let transaction = 0; transaction < 5; transaction++) outcomes.push(await pushed());
  await pool.end();
  // A client's first statement is not prepared, and its second is asked for whether it may be.
  expect(outcomes).toEqual(["committed", "committed", "failed", "committed", "committed"]);
});

test("twenty statements of one worker at once warn of no leak", async () => {
  const warnings: string[] = [];
  const hear = ({ name }: Error): void => void warnings.push(name);
  process.on("warning", hear);
  const count = 20;
  let running = 0;
  const all = signal();
  const settling = defineCommand({ name: "settling" });
  await using orchestrator = createOrchestrator({
    database: postgresJs(database.sql),
    handlers: [
      settling.handle(async ({ finish }) => {
        if (++running === count) all.give();
        await all.got();
        return await database.sql.begin(async (tx) => await finish(postgresJs(tx), undefined));
      }),
    ],
  });
  orchestrator.startWorker({ concurrency: count });
  const pushed = await orchestrator.push(Array.from({ length: count }, () => settling()));
  await orchestrator.waitFor(
    pushed.map(({ id }) => id),
    { timeoutMs: 60_000 },
  );
  await new Promise((resolve) => setTimeout(resolve, 50));
  process.off("warning", hear);
  expect(warnings).toEqual([]);
});
