/**
 * The drivers that the suites are run on: those that exist in the runtime that runs the tests, or those of them that
 * ORCHESTRATUM_TEST_DRIVERS names, with commas between them.
 */
import { PGlite } from "@electric-sql/pglite";
import { Pool } from "pg";
import { type BunSqlClient, type BunSqlPool, bunSql } from "../../adapters/bun-sql.ts";
import { nodePostgres } from "../../adapters/node-postgres.ts";
import { pglite } from "../../adapters/pglite.ts";
import { postgresJs } from "../../adapters/postgres-js.ts";
import { migrate } from "../../src/index.ts";
import type { Ground } from "../conformance.ts";
import { createDatabase } from "../database.ts";

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
      transaction: async (work) => {
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
      },
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

const all = { ...everywhere, ...(bun ? inBun(bun.SQL) : {}) };
const chosen = process.env.ORCHESTRATUM_TEST_DRIVERS?.split(",") ?? Object.keys(all);

export const drivers: readonly { readonly name: string; readonly open: () => Promise<OpenGround> }[] = chosen.map(
  (name) => {
    const open = all[name];
    if (!open) throw new Error(`Cannot test driver "${name}": here are ${Object.keys(all).join(", ")}`);
    return { name, open };
  },
);
