import { Client, type CustomTypesConfig, Pool, type PoolClient } from "pg";
import { afterAll, beforeAll, expect, test, vi } from "vitest";
import { nodePostgres } from "../../adapters/node-postgres.ts";
import { isPassing } from "../../src/database.ts";
import { createDatabase, type Database } from "../database.ts";
import { startPostgres } from "../postgres.ts";

let database: Database;
let pool: Pool;
beforeAll(async () => {
  database = await createDatabase({ migrated: false });
  pool = new Pool({ connectionString: database.url, max: 2 });
});
afterAll(async () => {
  await pool.end();
  await database.drop();
});

const text = "select $1::int as one, $2::text as text, $3::boolean as yes, $4::text as nothing";
const row = { one: 1, text: "a", yes: true, nothing: null };

test("nodePostgres() takes a pool, a client and the client of a transaction", async () => {
  expect(await nodePostgres(pool).query(text, [1, "a", true, null])).toEqual([row]);
  const single = new Client({ connectionString: database.url });
  await single.connect();
  const driver = nodePostgres(single);
  expect(await driver.query(text, [1, "a", true, null])).toEqual([row]);
  await driver.script("create temporary table a (n int); insert into a values (1)");
  expect(await driver.query("select n from a", [])).toEqual([{ n: 1 }]);
  await single.end();
  const client = await pool.connect();
  await client.query("begin");
  expect(await nodePostgres(client).query(text, [1, "a", true, null])).toEqual([row]);
  await client.query("rollback");
  client.release();
});

test("nodePostgres() reads text, JSON, 64-bit integers and times alike, whatever parsers are set", async () => {
  const own = new Pool({
    connectionString: database.url,
    types: { getTypeParser: () => () => "spoilt" } as unknown as CustomTypesConfig,
  });
  const rows = await nodePostgres(own).query(
    `select 1 as n, 1.5::float8 as f, 9007199254740993 as big, '{"a":1}'::json as j, '{"a":1}'::jsonb as jb,
      '2026-01-01 00:00:00.000001+00'::timestamptz as at, array[1] as list, false as no`,
    [],
  );
  expect(rows).toEqual([
    {
      n: 1,
      f: 1.5,
      big: "9007199254740993",
      j: '{"a":1}',
      jb: '{"a": 1}',
      at: expect.stringContaining(".000001"),
      list: "{1}",
      no: false,
    },
  ]);
  await own.end();
});

test("nodePostgres() runs a script in one transaction", async () => {
  const driver = nodePostgres(pool);
  const broken = driver.script("create table half (n int); insert into half values (1); select 1 / 0");
  await expect(broken).rejects.toMatchObject({ code: "22012" });
  await expect(driver.query("select n from half", [])).rejects.toMatchObject({ code: "42P01" });
});

test("nodePostgres() runs what is asked of one client at once one after the other", async () => {
  const warnings: string[] = [];
  const warn = (warning: Error): void => void warnings.push(warning.message);
  process.on("warning", warn);
  const client = await pool.connect();
  const db = nodePostgres(client);
  const rows = await Promise.all(Array.from({ length: 10 }, (_, n) => db.query("select $1::int as n", [n])));
  expect(rows).toEqual(Array.from({ length: 10 }, (_, n) => [{ n }]));
  client.release();
  await new Promise((resolve) => setImmediate(resolve));
  process.off("warning", warn);
  expect(warnings).toEqual([]);
});

test("nodePostgres() prepares its statements, and sends one again that the server has forgotten", async () => {
  const single = new Pool({ connectionString: database.url, max: 1 });
  const driver = nodePostgres(single);
  const prepared = () => driver.query("select count(*)::int as n from pg_prepared_statements", []);
  for (let time = 0; time < 2; time += 1) await driver.query(text, [1, "a", true, null]);
  expect(await prepared()).toEqual([{ n: 2 }]);
  await single.query("deallocate all");
  expect(await driver.query(text, [1, "a", true, null])).toEqual([row]);
  await single.end();
  const client = new Client({ connectionString: database.url });
  await client.connect();
  await nodePostgres(client).query("begin", []);
  await nodePostgres(client).query("set transaction isolation level repeatable read", []);
  for (let time = 0; time < 3; time += 1) await nodePostgres(client).query(text, [1, "a", true, null]);
  await client.query("commit");
  expect((await client.query("select count(*)::int as n from pg_prepared_statements")).rows).toEqual([{ n: 1 }]);
  await client.end();
  const plain = new Pool({ connectionString: database.url, max: 1 });
  const unprepared = nodePostgres(plain, { prepare: false });
  await unprepared.query(text, [1, "a", true, null]);
  expect(await unprepared.query("select count(*)::int as n from pg_prepared_statements", [])).toEqual([{ n: 0 }]);
  await plain.end();
});

test("nodePostgres() sends a statement again whose result has another type than when it was prepared", async () => {
  const driver = nodePostgres(pool);
  await driver.script("create table changed (a int); insert into changed values (1)");
  const all = () => driver.query("select * from changed", []);
  await Promise.all([all(), all()]);
  await driver.script("alter table changed add column b text default 'x'");
  expect(await Promise.all([all(), all()])).toEqual([[{ a: 1, b: "x" }], [{ a: 1, b: "x" }]]);
});

test("nodePostgres() cancels a statement whose signal aborts, and gives its connection up", async () => {
  const driver = nodePostgres(pool);
  const reason = new Error("enough");
  const controller = new AbortController();
  const statement = driver.query("select pg_sleep($1::int) as slept", [600], { signal: controller.signal });
  const cancelled = expect(statement).rejects.toMatchObject({ code: "57014" });
  const sleeping = await vi.waitFor(
    async () => {
      const found = await database.sql<{ pid: number }[]>`
        select pid from pg_stat_activity where wait_event = 'PgSleep' and datname = current_database()`;
      expect(found).toHaveLength(1);
      return found[0]?.pid;
    },
    { timeout: 20_000 },
  );
  // By its backend: others are given up with it, and may have been idle for too long meanwhile.
  const releases: unknown[] = [];
  const onRelease = (asBroken: unknown, client: PoolClient): void => {
    if ((client as { processID?: unknown }).processID === sleeping) releases.push(asBroken);
  };
  pool.on("release", onRelease);
  controller.abort(reason);
  await cancelled;
  pool.off("release", onRelease);
  expect(releases).toEqual([true]);
  await expect(driver.query("select 1", [], { signal: AbortSignal.abort(reason) })).rejects.toBe(reason);
});

test("nodePostgres() gives up waiting for a client of a pool that is used up, and loses none by it", async () => {
  const held = await Promise.all([pool.connect(), pool.connect()]);
  const reason = new Error("enough");
  const controller = new AbortController();
  const statement = nodePostgres(pool).query("select 1 as one", [], { signal: controller.signal });
  controller.abort(reason);
  await expect(statement).rejects.toBe(reason);
  for (const client of held) client.release();
  const again = await Promise.all([pool.connect(), pool.connect()]);
  for (const client of again) client.release();
});

test("nodePostgres() survives that its backends are killed, idle and at work", async () => {
  const kill = () => database.sql`
    select pg_terminate_backend(pid) from pg_stat_activity
    where datname = current_database() and pid <> pg_backend_pid() and backend_type = 'client backend'`;
  await using own = nodePostgres(database.url, { max: 2 });
  await own.query("select 1", []);
  await kill();
  // Nobody uses it when it is lost: that is an event `error` of the pool.
  await vi.waitFor(() => expect(own.pool.totalCount).toBe(0), { timeout: 20_000 });
  await vi.waitFor(() => own.query("select 1", []), { timeout: 20_000 });
  const working = expect(own.query("select pg_sleep(600)", [])).rejects.toThrow();
  const asleep = () =>
    database.sql`select from pg_stat_activity where wait_event = 'PgSleep' and datname = current_database()`;
  await vi.waitFor(async () => expect(await asleep()).toHaveLength(1), { timeout: 20_000 });
  await kill();
  await working;
  expect(await vi.waitFor(() => own.query("select 1 as one", []), { timeout: 20_000 })).toEqual([{ one: 1 }]);
  // The pool's own `error` is nobody's concern; one that nobody listened to would have ended this process.
});

test("nodePostgres() listens on a connection of its own, and again after it was killed", async () => {
  const heard: string[] = [];
  let listened = 0;
  const listener = await nodePostgres(pool).listen(
    'User "x"',
    (payload) => void heard.push(payload),
    () => void listened++,
  );
  expect(listened).toBe(1);
  const backends = () =>
    database.sql<{ pid: number }[]>`
      select pid from pg_stat_activity where datname = current_database() and query ilike 'listen%'`;
  /** Of the one there is, once those that were killed are gone. */
  const only = () =>
    vi.waitFor(
      async () => {
        const [first, ...others] = await backends();
        expect(others).toEqual([]);
        return first?.pid ?? expect.fail("Nobody listens");
      },
      { timeout: 20_000 },
    );
  for (let time = 1; time <= 3; time += 1) {
    await database.sql.notify('User "x"', String(time));
    await vi.waitFor(() => expect(heard).toContain(String(time)), { timeout: 20_000 });
    const pid = await only();
    await database.sql`select pg_terminate_backend(${pid})`;
    await vi.waitFor(() => expect(listened).toBe(time + 1), { timeout: 20_000 });
  }
  await only();
  await listener.close();
  await listener.close();
  await vi.waitFor(async () => expect(await backends()).toHaveLength(0), { timeout: 20_000 });
});

test("nodePostgres() listens again after a restart, fails where there is no server, and ends while it tries", async () => {
  const server = await startPostgres();
  const own = nodePostgres(server.url, { max: 1 });
  let listened = 0;
  const onListen = (): void => void listened++;
  const listener = await own.listen("c", () => {}, onListen);
  await server.restart("immediate");
  await vi.waitFor(() => expect(listened).toBe(2), { timeout: 20_000 });
  await server.stop();
  await expect(own.listen("c", () => {}, onListen)).rejects.toMatchObject({ code: "ECONNREFUSED" });
  await listener.close();
  await own.close();
});

test("nodePostgres() opens a pool for a URL, and closing ends it", async () => {
  const own = nodePostgres(database.url, { application_name: "opened" });
  expect(own.name).toBe("node-postgres");
  expect(await own.query("select current_setting('application_name') as name", [])).toEqual([{ name: "opened" }]);
  await own.close();
  await own.close();
  const open = () => database.sql`
    select from pg_stat_activity where application_name = 'opened' and datname = current_database()`;
  await vi.waitFor(async () => expect(await open()).toHaveLength(0), { timeout: 20_000 });
  const ended = await own.query("select 1", []).catch((error: unknown) => error);
  expect((ended as Error).message).toBe("Cannot run a statement: its pool was ended");
  expect(isPassing(ended)).toBe(false);
  expect(isPassing((ended as Error).cause)).toBe(true);
});

test("nodePostgres() refuses what is no pool and no client", () => {
  expect(() => nodePostgres({} as never)).toThrow(TypeError);
  expect(() => nodePostgres(undefined as never)).toThrow(
    "Cannot use this as a database of pg: it must be a URL, a pool or a client, got undefined",
  );
});
