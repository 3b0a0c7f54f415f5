/** Behind a pooler in transaction mode. It wants the program `pgbouncer`, and so is not among the tests that run everywhere. */
import { Pool } from "pg";
import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import { nodePostgres } from "../../adapters/node-postgres.ts";
import { createOrchestrator, migrate, type Observation } from "../../src/index.ts";
import { drivers, type Options, working } from "../adapters/open-connections.ts";
import { createDatabase, type Database } from "../database.ts";
import { startPgBouncer } from "../pgbouncer.ts";

let database: Database;
beforeAll(async () => {
  database = await createDatabase({ max: 2 });
});
afterAll(() => database.drop());

describe("PgBouncer in transaction mode", () => {
  const open = (name: string, url: string, options: Options) =>
    (drivers[name] as NonNullable<(typeof drivers)[string]>)(url, options);
  const cases: readonly [string, string, Options][] = [
    ["postgres.js, unprepared", "postgres.js", { prepare: false }],
    ["node-postgres, unprepared", "node-postgres", { prepare: false }],
    ["node-postgres, as it is", "node-postgres", {}],
  ];

  test.each(cases)(
    "%s: everything works, and that notifications do not arrive is said once",
    async (name, driver, options) => {
      const queue = `pooled_${name.replaceAll(/\W/g, "_").toLowerCase()}`;
      await using pooler = await startPgBouncer(database.url);
      const pooled = open(driver, pooler.url, options);
      await migrate(pooled, { schema: queue });
      // On each of the pooler's connections to the server, in turns.
      for (let round = 0; round < 5; round += 1) {
        const rows = await Promise.all(
          [1, 2, 3, 4].map((n) => pooled.query("select $1::int as n from pg_sleep(0.05)", [n])),
        );
        expect(rows).toEqual([1, 2, 3, 4].map((n) => [{ n }]));
      }
      const observations: Observation[] = [];
      const worker = await working(pooled, queue, observations);
      await vi.waitFor(() => expect(observations).toContainEqual({ type: "listening", proven: false }), {
        timeout: 10_000,
      });
      await Promise.all(Array.from({ length: 40 }, (_, index) => worker.runsOne(index)));
      const ofOthers = await database.sql<{ id: string }[]>`
      select orchestratum.push('job', '7'::json, ${`{"queue": "${queue}"}`}::text::json)::text as id`;
      worker.orchestrator.wake([queue]);
      expect(await worker.orchestrator.waitFor(ofOthers[0]?.id ?? "")).toMatchObject({ status: "succeeded" });
      expect(observations.filter(({ type }) => type === "listening")).toHaveLength(1);
      await worker.stop();
      await pooled.close();
    },
  );

  test("node-postgres, as it is: no transaction fails by a statement that was prepared in another session", async () => {
    await using pooler = await startPgBouncer(database.url, { poolSize: 1 });
    const pool = new Pool({ connectionString: pooler.url, max: 2 });
    const clients = await Promise.all([pool.connect(), pool.connect()]);
    const values: unknown[] = [];
    for (let round = 0; round < 4; round += 1) {
      for (const client of clients) {
        await client.query("begin");
        values.push(...(await nodePostgres(client).query("select $1::int as n", [round])));
        await client.query("commit");
      }
    }
    expect(values).toEqual([0, 0, 1, 1, 2, 2, 3, 3].map((n) => ({ n })));
    for (const client of clients) client.release();
    await pool.end();
  });

  test.each(cases)("%s: a direct connection to listen on brings notifications", async (name, driver, options) => {
    const queue = `direct_${name.replaceAll(/\W/g, "_").toLowerCase()}`;
    await using pooler = await startPgBouncer(database.url);
    const pooled = open(driver, pooler.url, { ...options, listen: database.url });
    const observations: Observation[] = [];
    const worker = await working(pooled, queue, observations);
    await vi.waitFor(() => expect(observations).toContainEqual({ type: "listening", proven: true }), {
      timeout: 10_000,
    });
    // Pushed elsewhere, through the pooler: only a notification tells of it.
    const elsewhere = open(driver, pooler.url, { ...options, listen: false });
    expect(elsewhere.listen).toBe(undefined);
    const other = createOrchestrator({ database: elsewhere, commands: [worker.job] });
    const { id } = await other.push(worker.job(3));
    expect(await worker.orchestrator.waitFor(id, { timeoutMs: 30_000 })).toMatchObject({ status: "succeeded" });
    await other.stop();
    await worker.stop();
    await elsewhere.close();
    await pooled.close();
  });
});
