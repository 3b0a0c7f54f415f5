/** What `bunSql` does that the suite cannot see, as a program of Bun: argv has the URL of a database. Prints a line for each. */

import assert from "node:assert/strict";
import { type BunSqlClient, type BunSqlPool, bunSql } from "../../adapters/bun-sql.ts";
import { createOrchestrator, defineCommand, type Observation } from "../../src/index.ts";
import { halfOpenProxy } from "../half-open.ts";

type Pool = BunSqlPool & { begin(work: (tx: BunSqlClient & { savepoint: unknown }) => Promise<void>): Promise<void> };
const { SQL } = (globalThis as unknown as { Bun: { SQL: new (url: string, options?: object) => Pool } }).Bun;
const url = process.argv[2] as string;
const sql = new SQL(url, { max: 4 });
const driver = bunSql(sql);

/** Tries until it holds, for a while. */
async function eventually(check: () => Promise<void>): Promise<void> {
  for (let time = 0; ; time += 1) {
    try {
      return await check();
    } catch (error) {
      if (time === 400) throw error;
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  }
}

const checks: Readonly<Record<string, () => Promise<void>>> = {
  async "takes a pool, a reserved connection and a transaction, and answers plain arrays"() {
    const text = "select $1::int as one, $2::text as text, $3::boolean as yes, $4::text as nothing";
    const rows = [{ one: 1, text: "a", yes: true, nothing: null }];
    const params = [1, "a", true, null];
    const answered = await driver.query(text, params);
    assert.deepEqual(answered, rows);
    assert.equal(Object.keys(answered).length, 1);
    const reserved = (await sql.reserve()) as BunSqlClient & { release(): void };
    assert.deepEqual(await bunSql(reserved).query(text, params), rows);
    assert.ok(!("script" in bunSql(reserved)));
    reserved.release();
    await sql.begin(async (tx) => {
      assert.deepEqual(await bunSql(tx).query(text, params), rows);
      assert.ok(!("script" in bunSql(tx)));
    });
  },

  async "tells the server's SQLSTATE, and runs a script in one transaction"() {
    await assert.rejects(driver.script("create table half (n int); select 1 / 0"), { errno: "22012" });
    await assert.rejects(driver.query("select n from half", []), { errno: "42P01" });
  },

  async "cancels a statement whose signal aborts"() {
    const controller = new AbortController();
    const statement = driver.query("select pg_sleep($1::int) as slept", [600], { signal: controller.signal });
    const cancelled = assert.rejects(statement, { errno: "57014" });
    await eventually(async () => {
      const running = "select pid from pg_stat_activity where state = 'active' and query like '%as slept'";
      assert.equal((await driver.query(running, [])).length, 2);
    }).catch(() => {});
    controller.abort();
    await cancelled;
    assert.deepEqual(await driver.query("select 1 as one", []), [{ one: 1 }]);
  },

  async "listens on a connection of its own, again after it was killed, and no more when it is closed"() {
    const heard: string[] = [];
    let listened = 0;
    const listener = await driver.listen?.(
      'User "x"',
      (payload) => void heard.push(payload),
      () => void listened++,
    );
    const backends = () =>
      driver.query<{ pid: number }>(
        "select pid from pg_stat_activity where datname = current_database() and query ilike 'listen%'",
        [],
      );
    for (let time = 1; time <= 3; time += 1) {
      await eventually(async () => assert.equal(listened, time));
      await driver.query("select pg_notify($1::text, $2::text)", ['User "x"', String(time)]);
      await eventually(async () => assert.ok(heard.includes(String(time))));
      const [backend] = await backends();
      await driver.query("select pg_terminate_backend($1::int)", [backend?.pid ?? 0]);
    }
    await eventually(async () => assert.equal(listened, 4));
    await listener?.close();
    await listener?.close();
    await eventually(async () => assert.equal((await backends()).length, 0));
  },

  async "turns listening off"() {
    assert.equal(bunSql(sql, { listen: false }).listen, undefined);
  },

  async "gives a statement up whose connection does not answer, and goes on over others"() {
    await using proxy = await halfOpenProxy(url);
    const cut = new SQL(proxy.url, { max: 2 });
    const through = bunSql(cut);
    await Promise.all([1, 2].map(() => through.query("select pg_sleep(0.05)", [])));
    proxy.silence();
    const reason = new Error("not answered");
    const controller = new AbortController();
    const late = Promise.allSettled(
      Array.from({ length: 4 }, () => through.query("select 1", [], { signal: controller.signal })),
    );
    setTimeout(() => controller.abort(reason), 200);
    const results = await late;
    assert.deepEqual(new Set(results.map(({ status }) => status)), new Set(["rejected"]));
    // What waited for a connection was never sent, and says so.
    assert.ok(results.some((result) => result.status === "rejected" && result.reason === reason));
    assert.deepEqual(await through.query("select 1 as one", []), [{ one: 1 }]);
    await cut.close({ timeout: 0 });
  },

  async "has a LISTEN connection that fell silent replaced"() {
    await using proxy = await halfOpenProxy(url);
    const cut = new SQL(proxy.url, { max: 1 });
    const job = defineCommand({ name: "job" });
    const heard: boolean[] = [];
    const orchestrator = createOrchestrator({
      database: bunSql(sql, { listen: cut }),
      handlers: [job.handle(() => {})],
      observe: (observation: Observation) => {
        if (observation.type === "listening") heard.push(observation.proven);
      },
    });
    await orchestrator.migrate();
    orchestrator.startWorker({ pollIntervalMs: 100 });
    // A connection on which the first probe took too long is replaced, too.
    await eventually(async () => assert.equal(heard.at(-1), true));
    heard.length = 0;
    proxy.silence();
    // A poll proves the connection, once in 15 s.
    await eventually(async () => assert.ok(heard.includes(false)));
    await eventually(async () => assert.equal(heard.at(-1), true));
    await orchestrator.stop();
    await cut.close({ timeout: 0 });
  },

  async "gives up listening where the server accepts a connection and no more"() {
    await using proxy = await halfOpenProxy(url);
    proxy.silenceAll();
    const cut = new SQL(proxy.url, { max: 1 });
    const listening = bunSql(cut).listen?.(
      "x",
      () => {},
      () => {},
    );
    await assert.rejects(
      async () => await listening,
      /^Error: Cannot listen: the server did not answer within 15000 ms$/,
    );
    await cut.close({ timeout: 0 });
  },

  async "gives up listening when it is told to"() {
    await using proxy = await halfOpenProxy(url);
    proxy.silenceAll();
    const cut = new SQL(proxy.url, { max: 1 });
    const controller = new AbortController();
    const reason = new Error("enough");
    const listening = bunSql(cut).listen?.(
      "x",
      () => {},
      () => {},
      { signal: controller.signal },
    );
    const given = assert.rejects(async () => await listening, reason);
    await eventually(async () => assert.equal(proxy.open, 1));
    controller.abort(reason);
    await given;
    await eventually(async () => assert.equal(proxy.open, 0));
    await cut.close({ timeout: 0 });
  },

  async "pushes over a reserved connection"() {
    const job = defineCommand({ name: "reserved_job" });
    const orchestrator = createOrchestrator({ database: bunSql(sql), commands: [job] });
    await orchestrator.migrate();
    const reserved = (await sql.reserve()) as BunSqlClient & { release(): void };
    const { id } = await orchestrator.push(job(), { db: bunSql(reserved) });
    reserved.release();
    assert.equal((await orchestrator.get(id))?.status, "pending");
    await orchestrator.stop();
  },
};

for (const [name, check] of Object.entries(checks)) {
  try {
    await check();
    console.log(`passed: ${name}`);
  } catch (error) {
    console.log(`failed: ${name}: ${error instanceof Error ? error.stack : String(error)}`);
  }
}
await sql.close({ timeout: 0 });
console.log("ended");
