import { type AddressInfo, connect, createServer } from "node:net";
import postgres from "postgres";
import { afterAll, beforeAll, expect, test, vi } from "vitest";
import { postgresJs } from "../../adapters/postgres-js.ts";
import { isPassing } from "../../src/database.ts";
import { signal } from "../conformance.ts";
import { createDatabase, type Database } from "../database.ts";
import { halfOpenProxy } from "../half-open.ts";
import { startPostgres } from "../postgres.ts";

let database: Database;
beforeAll(async () => {
  database = await createDatabase({ migrated: false });
});
afterAll(() => database.drop());

const listeners = (): PromiseLike<{ pid: number }[]> =>
  database.sql<{ pid: number }[]>`
    select pid from pg_stat_activity where datname = current_database() and query ilike 'listen%'`;

/** The backend of the one that listens, once those that were killed are gone. */
const onlyListener = () =>
  vi.waitFor(
    async () => {
      const [first, ...others] = await listeners();
      expect(others).toEqual([]);
      return first?.pid ?? expect.fail("Nobody listens");
    },
    { timeout: 20_000 },
  );

/** What a listener heard, how often it began to listen, and how to wait for either. */
function recorder() {
  const heard: string[] = [];
  let times = 0;
  return {
    heard,
    onNotify: (payload: string) => void heard.push(payload),
    onListen: () => {
      times += 1;
    },
    listened: (wanted: number) => vi.waitFor(() => expect(times).toBe(wanted), { timeout: 20_000, interval: 5 }),
    hears: (payload: string) => vi.waitFor(() => expect(heard).toContain(payload), { timeout: 20_000, interval: 5 }),
  };
}

test("postgresJs() takes a pool, a connection and a transaction", async () => {
  const text = "select $1::int as one, $2::text as text, $3::boolean as yes, $4::text as nothing";
  const row = { one: 1, text: "a", yes: true, nothing: null };
  expect(await postgresJs(database.sql).query(text, [1, "a", true, null])).toEqual([row]);
  const connection = await database.sql.reserve();
  expect(await postgresJs(connection).query(text, [1, "a", true, null])).toEqual([row]);
  connection.release();
  await database.sql.begin(async (tx) => {
    expect(await postgresJs(tx).query(text, [1, "a", true, null])).toEqual([row]);
  });
});

test("postgresJs() answers a plain array of plain objects", async () => {
  const rows = await postgresJs(database.sql).query("select generate_series(1, 2) as n", []);
  expect(Object.getPrototypeOf(rows)).toBe(Array.prototype);
  expect(Object.keys(rows)).toEqual(["0", "1"]);
});

test("postgresJs() gives columns their own names in a pool that transforms them", async () => {
  const sql = postgres(database.url, { ...postgres.camel, max: 1, transform: postgres.camel });
  const driver = postgresJs(sql);
  const text = "select x.available_at, x.id from (select 1 as available_at, 2 as id) x where $1::boolean";
  expect(await driver.query(text, [true])).toEqual([{ available_at: 1, id: 2 }]);
  expect(await driver.query(text, [true])).toEqual([{ available_at: 1, id: 2 }]);
  expect([...(await sql.unsafe(text, [true]))]).toEqual([{ availableAt: 1, id: 2 }]);
  await sql.end();
});

test("postgresJs() prepares statements, unless the pool was made to prepare none", async () => {
  const prepared = async (options: postgres.Options<Record<string, never>>): Promise<unknown> => {
    const sql = postgres(database.url, { max: 1, ...options });
    const driver = postgresJs(sql);
    await driver.query("select $1::int as marked", [1]);
    const [row] = await driver.query<{ count: number }>(
      "select count(*)::int as count from pg_prepared_statements where statement like '%as marked'",
      [],
    );
    await sql.end();
    return row?.count;
  };
  expect(await prepared({})).toBe(1);
  expect(await prepared({ prepare: false })).toBe(0);
});

test("postgresJs() reports the SQLSTATE", async () => {
  const driver = postgresJs(database.sql);
  await expect(driver.query("select 1/$1::int", [0])).rejects.toMatchObject({ code: "22012" });
  await expect(driver.script("select 1; select 1/0;")).rejects.toMatchObject({ code: "22012" });
});

test("postgresJs() runs a script in one transaction", async () => {
  const driver = postgresJs(database.sql);
  await expect(driver.script("create table half (); select 1/0;")).rejects.toThrow();
  await expect(driver.query("select from half", [])).rejects.toMatchObject({ code: "42P01" });
});

test("postgresJs() cancels a statement when its signal aborts, on the server too", async () => {
  const controller = new AbortController();
  const statement = postgresJs(database.sql).query("select pg_sleep($1::int)", [600], { signal: controller.signal });
  const cancelled = expect(statement).rejects.toMatchObject({ code: "57014" });
  const running = () =>
    database.sql`select from pg_stat_activity where wait_event = 'PgSleep' and datname = current_database()`;
  // Asleep, and not only parsed: what is cancelled before it is executed goes on.
  await vi.waitFor(async () => expect(await running()).toHaveLength(1), { timeout: 20_000 });
  controller.abort();
  await cancelled;
  await vi.waitFor(async () => expect(await running()).toHaveLength(0), { timeout: 20_000 });
});

test("postgresJs() lives through a server that resets the connection by which a statement is to be cancelled", async () => {
  const rejected: unknown[] = [];
  const hear = (error: unknown): void => void rejected.push(error);
  process.on("unhandledRejection", hear);
  await using proxy = await halfOpenProxy(database.url);
  const driver = postgresJs(proxy.url, { max: 1 });
  await driver.query("select 1", []);
  const controller = new AbortController();
  const cancelled = expect(
    driver.query("select pg_sleep(600)", [], { signal: controller.signal }),
  ).rejects.toBeInstanceOf(Error);
  const sleeping = () => database.sql<{ pid: number }[]>`
    select pid from pg_stat_activity where wait_event = 'PgSleep' and datname = current_database()`;
  await vi.waitFor(async () => expect(await sleeping()).toHaveLength(1), { timeout: 20_000 });
  proxy.resetNew();
  controller.abort(new Error("enough"));
  await cancelled;
  await new Promise((resolve) => setTimeout(resolve, 100));
  expect(rejected).toEqual([]);
  process.off("unhandledRejection", hear);
  await driver.close({ timeoutMs: 0 });
  // The server was not told, and would not miss its client for as long as it sleeps.
  for (const { pid } of await sleeping()) await database.sql`select pg_terminate_backend(${pid}, 20000)`;
});

test("postgresJs() sends nothing for a signal that has aborted", async () => {
  const signal = AbortSignal.abort(new Error("too late"));
  await expect(postgresJs(database.sql).query("create table late ()", [], { signal })).rejects.toThrow("too late");
  expect(await postgresJs(database.sql).query("select to_regclass('late')::text as found", [])).toEqual([
    { found: null },
  ]);
});

test("postgresJs() leaves nothing at a signal that outlives its statements", async () => {
  const { signal } = new AbortController();
  const removed = vi.spyOn(signal, "removeEventListener");
  const added = vi.spyOn(signal, "addEventListener");
  await postgresJs(database.sql).query("select 1", [], { signal });
  expect(removed.mock.calls.length).toBe(added.mock.calls.length);
});

test("postgresJs() listens on a connection of its own, and closing frees it", async () => {
  const driver = postgresJs(database.sql);
  const { heard, onNotify, onListen, listened, hears } = recorder();
  const listener = await driver.listen('User "x"', onNotify, onListen);
  await listened(1);
  await onlyListener();
  await database.sql.notify('User "x"', "one");
  await hears("one");
  await listener.close();
  await listener.close();
  await vi.waitFor(async () => expect(await listeners()).toHaveLength(0), { timeout: 20_000 });
  const other = recorder();
  const later = await driver.listen('User "x"', other.onNotify, other.onListen);
  await other.listened(1);
  await database.sql.notify('User "x"', "two");
  await other.hears("two");
  expect(heard).toEqual(["one"]);
  await later.close();
});

test("postgresJs() listens again after its backend was killed, as often as that happens", async () => {
  const { onNotify, onListen, listened, hears } = recorder();
  const listener = await postgresJs(database.sql).listen("again", onNotify, onListen);
  for (let times = 1; times <= 3; times += 1) {
    await listened(times);
    await database.sql.notify("again", String(times));
    await hears(String(times));
    const pid = await onlyListener();
    await database.sql`select pg_terminate_backend(${pid})`;
  }
  await listened(4);
  await onlyListener();
  await listener.close();
});

test("postgresJs() listens again after the server was restarted", async () => {
  const server = await startPostgres();
  try {
    await using pool = postgresJs(server.url, { max: 1 });
    const { onNotify, onListen, listened, hears } = recorder();
    const listener = await pool.listen("restarted", onNotify, onListen);
    await server.restart("immediate");
    await listened(2);
    await vi.waitFor(() => pool.query("select pg_notify($1::text, $2::text)", ["restarted", "back"]), {
      timeout: 20_000,
    });
    await hears("back");
    await listener.close();
  } finally {
    await server.stop();
  }
});

test("postgresJs() ends a listener that is closed while it tries to connect again", async () => {
  const server = await startPostgres();
  const pool = postgresJs(server.url, { max: 1 });
  const { onNotify, onListen } = recorder();
  const listener = await pool.listen("gone", onNotify, onListen);
  await server.stop();
  await listener.close();
  await pool.close();
});

test("postgresJs() rejects listen() where there is no server to connect to", async () => {
  const server = await startPostgres();
  await server.stop();
  const pool = postgresJs(server.url, { max: 1 });
  await expect(
    pool.listen(
      "nobody",
      () => {},
      () => {},
    ),
  ).rejects.toMatchObject({ code: "ECONNREFUSED" });
  await pool.close();
});

test("postgresJs() leaves a pool that did not answer, and the caller's own pool as it is", async () => {
  const pool = postgres(database.url, { max: 1, fetch_types: false });
  const driver = postgresJs(pool);
  const backend = "select pg_backend_pid() as pid";
  const before = await driver.query(backend, []);
  const controller = new AbortController();
  const statement = driver.query("select pg_sleep($1::int) as left", [600], { signal: controller.signal });
  const cancelled = expect(statement).rejects.toMatchObject({ code: "57014" });
  await vi.waitFor(
    async () => {
      // Asleep, and not only parsed: what is cancelled before it is executed goes on.
      const running = database.sql`
        select from pg_stat_activity
        where wait_event = 'PgSleep' and query like '%as left' and datname = current_database()`;
      expect(await running).toHaveLength(1);
    },
    { timeout: 20_000 },
  );
  controller.abort();
  await cancelled;
  const after = await driver.query(backend, []);
  expect(after).not.toEqual(before);
  expect(await driver.query(backend, [])).toEqual(after);
  expect([...(await pool.unsafe(backend))]).toEqual(before);
  await pool.end();
});

test("postgresJs() rejects a statement whose connection never answers, and goes on with another one", async () => {
  // A server in between that takes everything and answers nothing once it is told to: a half-open connection.
  const { hostname, port } = new URL(database.url);
  let silent = false;
  const proxy = createServer((client) => {
    const server = connect(Number(port), hostname);
    client.on("data", (data) => server.write(data));
    server.on("data", (data) => {
      if (!silent) client.write(data);
    });
    for (const [one, other] of [
      [client, server],
      [server, client],
    ] as const) {
      one.on("close", () => other.destroy());
      one.on("error", () => other.destroy());
    }
  });
  await new Promise<void>((resolve) => proxy.listen(0, "127.0.0.1", resolve));
  const url = new URL(database.url);
  url.port = String((proxy.address() as AddressInfo).port);
  const pool = postgresJs(url.href, { max: 1 });
  await pool.query("select 1", []);
  silent = true;
  const reason = new Error("not answered");
  const controller = new AbortController();
  const statement = pool.query("select $1::int as one", [1], { signal: controller.signal });
  const rejected = expect(statement).rejects.toBe(reason);
  await new Promise((resolve) => setImmediate(resolve));
  controller.abort(reason);
  await rejected;
  silent = false;
  expect(await pool.query("select $1::int as one", [1])).toEqual([{ one: 1 }]);
  await pool.close({ timeoutMs: 0 });
  proxy.close();
});

test("postgresJs() loses no connection to a statement that is aborted before it is sent", async () => {
  const pool = postgres(database.url, { max: 1, fetch_types: false });
  for (const text of ["select 1 as connecting", "select 1 as connected"]) {
    const controller = new AbortController();
    const statement = postgresJs(pool).query(text, [], { signal: controller.signal });
    controller.abort();
    // It may be given up before it is answered.
    await statement.catch((error) => expect(error).toBe(controller.signal.reason));
    expect(await pool.unsafe("select 1")).toHaveLength(1);
  }
  await pool.end();
});

test("postgresJs() goes on answering although postgres.js loses connections with every backend that is killed", async () => {
  const pool = postgresJs(database.url, { max: 2, connection: { application_name: "victim" } });
  let stopped = false;
  const loops = Array.from({ length: 16 }, async (_, n) => {
    // Both ways that postgres.js writes: at once, and buffered.
    const text = "x".repeat(n % 2 === 0 ? 1 : 3_000);
    while (!stopped) {
      await pool.query("select $1::text as text", [text], { signal: AbortSignal.timeout(500) }).catch(() => {});
    }
  });
  for (let killed = 0; killed < 400; ) {
    const rows = await database.sql`
      select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'victim' order by random() limit 1`;
    killed += rows.length;
  }
  stopped = true;
  await Promise.all(loops);
  const answers = Array.from({ length: 8 }, () =>
    vi.waitFor(() => pool.query("select pg_sleep(0.1)", [], { signal: AbortSignal.timeout(2_000) }), {
      timeout: 20_000,
    }),
  );
  expect(await Promise.all(answers)).toHaveLength(8);
  await pool.close({ timeoutMs: 0 });
});

test("postgresJs() opens a pool for a URL, and closing ends it", async () => {
  const pool = postgresJs(database.url, { connection: { application_name: "opened" } });
  expect(pool.name).toBe("postgres-js");
  expect(await pool.query("select current_setting('application_name') as name", [])).toEqual([{ name: "opened" }]);
  await pool.close();
  await pool.close();
  const open = () => database.sql`
    select from pg_stat_activity where application_name = 'opened' and datname = current_database()`;
  await vi.waitFor(async () => expect(await open()).toHaveLength(0), { timeout: 20_000 });
  const ended = await pool.query("select 1", []).catch((error: unknown) => error);
  expect(ended).toMatchObject({ name: "TypeError", message: "Cannot run a statement: its pool was ended" });
  expect(isPassing(ended)).toBe(false);
  expect(isPassing((ended as Error).cause)).toBe(true);
});

test("postgresJs() opens a pool that gives out connections of its own, also those that are not open yet", async () => {
  const pool = postgresJs(database.url, { max: 4 });
  const backend = "select pg_backend_pid() as pid";
  /** The backends of so many, the first four of which are held until they are four. */
  const reserve = async (count: number) => {
    const four = signal();
    let held = 0;
    const pids = Array.from({ length: count }, async () => {
      const connection = await pool.sql.reserve();
      const [before] = await connection.unsafe(backend);
      const [after] = await postgresJs(connection).query<{ pid: number }>(backend, []);
      held += 1;
      if (held === 4) four.give();
      await four.got();
      connection.release();
      expect(after).toEqual({ ...before });
      return after?.pid;
    });
    return new Set(await Promise.all(pids));
  };
  const reserved = await reserve(8);
  expect(reserved.size).toBe(4);
  // And none of them was lost by it.
  expect(await reserve(4)).toEqual(reserved);
  await pool.close();
});

test("postgresJs() refuses what is no client of postgres.js", () => {
  expect(() => postgresJs({} as never)).toThrow(TypeError);
  expect(() => postgresJs(undefined as never)).toThrow(
    "Cannot use this as a postgres.js database: it must be a URL, a pool, a connection or a transaction, got undefined",
  );
});
