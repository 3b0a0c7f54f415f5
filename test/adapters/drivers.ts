/**
 * The drivers that the suites are run on: those that exist in the runtime that runs the tests, or those that
 * ORCHESTRATUM_TEST_DRIVERS names, with commas between them. Those of `named` are only used where they are named:
 * they take what not every machine has, or say little more than the others.
 */
import { PGlite } from "@electric-sql/pglite";
import { Client, Pool } from "pg";
import { type BunSqlClient, type BunSqlPool, bunSql } from "../../adapters/bun-sql.ts";
import { nodePostgres } from "../../adapters/node-postgres.ts";
import { pglite } from "../../adapters/pglite.ts";
import { postgresJs } from "../../adapters/postgres-js.ts";
import { migrate } from "../../src/index.ts";
import type { Ground } from "../conformance.ts";
import { createDatabase } from "../database.ts";
import { startPgBouncer } from "../pgbouncer.ts";

interface OpenGround extends Ground {
  close(): Promise<void>;
}

/** The class of Bun's client, where it is Bun that runs the tests. */
type BunSqlClass = new (
  url: string,
  options?: object,
) => BunSqlPool & {
  begin(work: (tx: BunSqlClient & { savepoint: unknown }) => Promise<void>): Promise<void>;
};
export const bun = (globalThis as { Bun?: { SQL: BunSqlClass } }).Bun;

async function transactionOf(pool: Pool, work: Parameters<Ground["transaction"]>[0]): Promise<void> {
  const client = await pool.connect();
  try {
    await client.query("begin");
    await work(nodePostgres(client));
    await client.query("commit");
  } catch (error) {
    await client.query("rollback");
    throw error;
  } finally {
    client.release();
  }
}

const everywhere: Readonly<Record<string, () => Promise<OpenGround>>> = {
  async "postgres.js"() {
    const database = await createDatabase({ max: 8 });
    return {
      driver: postgresJs(database.sql),
      transaction: async (work) => void (await database.sql.begin((tx) => work(postgresJs(tx)))),
      close: () => database.drop(),
    };
  },

  async "node-postgres"() {
    const database = await createDatabase({ max: 1 });
    const pool = new Pool({ connectionString: database.url, max: 8 });
    return {
      driver: nodePostgres(pool),
      transaction: (work) => transactionOf(pool, work),
      close: async () => {
        await pool.end();
        await database.drop();
      },
    };
  },

  async PGlite() {
    const instance = await PGlite.create();
    const driver = pglite(instance);
    await migrate(driver);
    return {
      driver,
      transaction: (work) => instance.transaction((tx) => work(pglite(tx))),
      close: () => instance.close(),
    };
  },
};

const inBun = (SQL: BunSqlClass): typeof everywhere => ({
  async "Bun.SQL"() {
    const database = await createDatabase({ max: 1 });
    const pool = new SQL(database.url, { max: 8 });
    return {
      driver: bunSql(pool),
      transaction: (work) => pool.begin((tx) => work(bunSql(tx))),
      close: async () => {
        await pool.close({ timeout: 0 });
        await database.drop();
      },
    };
  },
});

const named: typeof everywhere = {
  async "node-postgres with a client"() {
    const database = await createDatabase({ max: 1 });
    const client = new Client({ connectionString: database.url });
    await client.connect();
    const pool = new Pool({ connectionString: database.url, max: 8 });
    return {
      driver: nodePostgres(client),
      transaction: (work) => transactionOf(pool, work),
      close: async () => {
        await Promise.all([client.end(), pool.end()]);
        await database.drop();
      },
    };
  },

  async "postgres.js behind PgBouncer"() {
    const database = await createDatabase({ max: 1 });
    const pooler = await startPgBouncer(database.url, { poolSize: 16 });
    const driver = postgresJs(pooler.url, { max: 8, prepare: false, listen: database.url });
    return {
      driver,
      transaction: async (work) => void (await driver.sql.begin((tx) => work(postgresJs(tx)))),
      close: async () => {
        await driver.close();
        await pooler[Symbol.asyncDispose]();
        await database.drop();
      },
    };
  },

  async "node-postgres behind PgBouncer"() {
    const database = await createDatabase({ max: 1 });
    const pooler = await startPgBouncer(database.url, { poolSize: 16 });
    const driver = nodePostgres(pooler.url, { max: 8, listen: database.url });
    return {
      driver,
      transaction: (work) => transactionOf(driver.pool, work),
      close: async () => {
        await driver.close();
        await pooler[Symbol.asyncDispose]();
        await database.drop();
      },
    };
  },
};

const usual = { ...everywhere, ...(bun ? inBun(bun.SQL) : {}) };
const all: typeof everywhere = { ...usual, ...named };
const chosen = process.env.ORCHESTRATUM_TEST_DRIVERS?.split(",") ?? Object.keys(usual);

export const drivers: readonly { readonly name: string; readonly open: () => Promise<OpenGround> }[] = chosen.map(
  (name) => {
    const open = all[name];
    if (!open) throw new Error(`Cannot test driver "${name}": here are ${Object.keys(all).join(", ")}`);
    return { name, open };
  },
);
