/** Pushing inside a transaction of somebody else's library, or over a connection of one's own: each with the real one. */

import { PGlite } from "@electric-sql/pglite";
import { drizzle as drizzleNodePostgres } from "drizzle-orm/node-postgres";
import { drizzle as drizzlePglite } from "drizzle-orm/pglite";
import { drizzle as drizzlePostgresJs } from "drizzle-orm/postgres-js";
import knex from "knex";
import { CamelCasePlugin, Kysely, PostgresDialect } from "kysely";
import { Pool } from "pg";
import postgres from "postgres";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { drizzleTransaction } from "../../adapters/drizzle.ts";
import { knexTransaction } from "../../adapters/knex.ts";
import { kyselyTransaction } from "../../adapters/kysely.ts";
import { pglite } from "../../adapters/pglite.ts";
import { postgresJs } from "../../adapters/postgres-js.ts";
import { prismaTransaction } from "../../adapters/prisma.ts";
import manifest from "../../package.json" with { type: "json" };
import { createOrchestrator, defineCommand, type Orchestrator, type Queryable } from "../../src/index.ts";
import { createDatabase, type Database } from "../database.ts";
import { openPrisma } from "./open-prisma.ts";

interface Library {
  /** Runs `work` in a transaction; rolls back where it throws. */
  transaction<T>(work: (db: Queryable) => Promise<T>): Promise<T>;
  close(): Promise<unknown>;
}

async function inPrisma(url: string): Promise<Library> {
  const prisma = await openPrisma(url);
  return {
    transaction: (work) => prisma.$transaction((tx) => work(prismaTransaction(tx))),
    close: () => prisma.$disconnect(),
  };
}

const libraries: Readonly<Record<string, (url: string) => Library | Promise<Library>>> = {
  "Drizzle on node-postgres"(url) {
    const pool = new Pool({ connectionString: url });
    const db = drizzleNodePostgres(pool);
    return {
      transaction: (work) => db.transaction((tx) => work(drizzleTransaction(tx))),
      close: () => pool.end(),
    };
  },
  "Drizzle on postgres.js"(url) {
    const client = postgres(url, { fetch_types: false });
    const db = drizzlePostgresJs(client);
    return {
      transaction: (work) => db.transaction((tx) => work(drizzleTransaction(tx))),
      close: () => client.end(),
    };
  },
  "a reserved connection of postgres.js"(url) {
    // With `fetch_types: false` postgres.js never gives out a connection that it has to open for it.
    const sql = postgres(url);
    return {
      async transaction(work) {
        const connection = await sql.reserve();
        try {
          await connection`begin`;
          const result = await work(postgresJs(connection));
          await connection`commit`;
          return result;
        } catch (error) {
          await connection`rollback`;
          throw error;
        } finally {
          connection.release();
        }
      },
      close: () => sql.end(),
    };
  },
  Kysely(url) {
    const pool = new Pool({ connectionString: url });
    const db = new Kysely<object>({ dialect: new PostgresDialect({ pool }), plugins: [new CamelCasePlugin()] });
    return {
      transaction: (work) => db.transaction().execute((trx) => work(kyselyTransaction(trx))),
      close: () => db.destroy(),
    };
  },
  Knex(url) {
    const camel = (row: object): object =>
      Object.fromEntries(Object.entries(row).map(([key, value]) => [key.replaceAll(/_(\w)/g, "$1"), value]));
    const db = knex({
      client: "pg",
      connection: url,
      postProcessResponse: (result) => (Array.isArray(result.rows) ? { rows: result.rows.map(camel) } : result),
    });
    return {
      transaction: (work) => db.transaction((trx) => work(knexTransaction(trx))),
      close: () => db.destroy(),
    };
  },
  ...("@prisma/client" in manifest.devDependencies && { Prisma: inPrisma }),
};

let database: Database;
beforeAll(async () => {
  database = await createDatabase();
});
afterAll(() => database.drop());

describe.each(Object.entries(libraries))("%s", (name, open) => {
  const note = defineCommand({ name: "note", queue: name.replaceAll(/\W/g, "_").toLowerCase() });
  const ran: unknown[] = [];
  let library: Library;
  let orchestrator: Orchestrator;

  beforeAll(async () => {
    library = await open(database.url);
    orchestrator = createOrchestrator({
      database: postgresJs(database.sql),
      handlers: [note.handle(({ input }) => void ran.push(input))],
    });
    // Hints alone wake it: a poll would come too late for the test.
    const worker = orchestrator.startWorker({ queues: [note.defaults.queue], pollIntervalMs: 600_000 });
    await worker.started;
  });
  afterAll(async () => {
    await orchestrator.stop();
    await library.close();
  });

  test("a push becomes visible with the commit, and wakes a worker then", async () => {
    let inside: unknown;
    const { id } = await library.transaction(async (db) => {
      const pushed = await orchestrator.push(note("kept"), { db });
      inside = await orchestrator.get(pushed.id);
      return pushed;
    });
    expect(inside).toBe(undefined);
    expect(await orchestrator.waitFor(id, { timeoutMs: 30_000 })).toMatchObject({ status: "succeeded" });
    expect(ran).toContain("kept");
  });

  test("a push is gone after a rollback", async () => {
    const ids: string[] = [];
    const rollback = library.transaction(async (db) => {
      const pushed = await orchestrator.push([note("lost"), note("lost too")], { db });
      ids.push(...pushed.map(({ id }) => id));
      throw new Error("rolled back");
    });
    await expect(rollback).rejects.toThrow("rolled back");
    for (const id of ids) expect(await orchestrator.get(id)).toBe(undefined);
    expect(ran).not.toContain("lost");
  });

  test("what the server refuses is told as from any driver", async () => {
    const id = crypto.randomUUID();
    await orchestrator.push(note(1, { id }));
    const conflict = library.transaction((db) => orchestrator.push(note(2, { id }), { db }));
    await expect(conflict).rejects.toMatchObject({ code: "ORCHESTRATUM_COMMAND_CONFLICT" });
  });

  test("names of columns, texts and parameters are the statement's own", async () => {
    const rows = await library.transaction((db) =>
      db.query(
        "select $2::text as the_text, $1::int as the_number, $3::boolean as yes, $4::text as nothing, '?' as mark",
        [1, "a ? $1", true, null],
      ),
    );
    expect(rows).toEqual([{ the_text: "a ? $1", the_number: 1, yes: true, nothing: null, mark: "?" }]);
    const long = "x".repeat(300_000);
    expect(await library.transaction((db) => db.query("select $1::text::json::text as json", [`["${long}"]`]))).toEqual(
      [{ json: `["${long}"]` }],
    );
    const refused = library.transaction((db) => db.query("select 1 / $1::int as refused", [0]));
    await expect(refused).rejects.toMatchObject({ code: "22012" });
  });
});

test("drizzleTransaction() takes a transaction of Drizzle on PGlite", async () => {
  const instance = await PGlite.create();
  const db = drizzlePglite({ client: instance });
  const note = defineCommand({ name: "note" });
  const orchestrator = createOrchestrator({ database: pglite(instance), handlers: [note.handle(() => {})] });
  await orchestrator.migrate();
  const { id } = await db.transaction((tx) => orchestrator.push(note("kept"), { db: drizzleTransaction(tx) }));
  const lost: string[] = [];
  const rollback = db.transaction(async (tx) => {
    lost.push((await orchestrator.push(note("lost"), { db: drizzleTransaction(tx) })).id);
    throw new Error("rolled back");
  });
  await expect(rollback).rejects.toThrow("rolled back");
  orchestrator.startWorker();
  expect(await orchestrator.waitFor(id, { timeoutMs: 30_000 })).toMatchObject({ status: "succeeded" });
  expect(await orchestrator.get(lost[0] as string)).toBe(undefined);
  await orchestrator.stop();
  await instance.close();
});
