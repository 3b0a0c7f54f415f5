import { execFile } from "node:child_process";
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import postgres from "postgres";
import { afterAll, expect, test } from "vitest";
import { pglite } from "../adapters/pglite.ts";
import { postgresJs } from "../adapters/postgres-js.ts";
import { type MigrateResult, migrate, migrateDown, migrationScript, migrationState } from "../src/migrate.ts";
import { functions, migrations, queries } from "../src/sql.generated.ts";
import { catalog } from "./catalog.ts";
import { createDatabase, type Database } from "./database.ts";

const run = promisify(execFile);
const file = (path: string): string => fileURLToPath(new URL(path, import.meta.url));

const names = migrations.map(({ version, name }) => `${String(version).padStart(4, "0")}_${name}`);

const opened: Database[] = [];
afterAll(() => Promise.all(opened.map((database) => database.drop())));

async function emptyDatabase(): Promise<Database> {
  const database = await createDatabase({ migrated: false });
  opened.push(database);
  return database;
}

async function migratedDatabase(): Promise<Database> {
  const database = await createDatabase();
  opened.push(database);
  return database;
}

test("migrate() applies everything once and in order, and then nothing", async () => {
  const { sql } = await emptyDatabase();
  const seen: string[] = [];
  const first = await migrate(postgresJs(sql), { onApplied: (name) => seen.push(name) });
  expect(first).toEqual({ applied: names, functionsReplaced: true, newer: false });
  expect(seen).toEqual(names);
  const rows = await sql`select version, name from orchestratum.migration order by version`;
  expect([...rows]).toEqual(migrations.map(({ version, name }) => ({ version, name })));

  const second = await migrate(postgresJs(sql), { onApplied: (name) => seen.push(name) });
  expect(second).toEqual({ applied: [], functionsReplaced: false, newer: false });
  expect(seen).toEqual(names);
});

test("migrate() works with a database that is at an earlier migration", async () => {
  const { sql } = await emptyDatabase();
  await sql.unsafe(migrations[0]?.up ?? "").simple();
  expect(await migrationState(postgresJs(sql))).toEqual({
    applied: names.slice(0, 1),
    pending: names.slice(1),
    unknown: [],
    functions: "missing",
  });
  expect(await migrate(postgresJs(sql))).toEqual({ applied: names.slice(1), functionsReplaced: true, newer: false });
  expect(await catalog(postgresJs(sql))).toBe(await catalog(postgresJs((await migratedDatabase()).sql)));
});

test("migrate() is safe when twenty processes start at once", async () => {
  const { url } = await emptyDatabase();
  const pools = Array.from({ length: 17 }, () => postgres(url, { max: 1, onnotice: () => {} }));
  const results = await Promise.all([
    ...pools.map((sql) => migrate(postgresJs(sql))),
    ...Array.from({ length: 3 }, async () => {
      const { stdout } = await run(process.execPath, ["--import", "tsx", file("migrate-process.ts"), url]);
      return JSON.parse(stdout) as MigrateResult;
    }),
  ]);
  await Promise.all(pools.map((sql) => sql.end()));
  expect(results.filter(({ applied }) => applied.length > 0)).toHaveLength(1);
  expect(results.filter(({ functionsReplaced }) => functionsReplaced)).toHaveLength(1);
  expect(results.flatMap(({ applied }) => applied)).toEqual(names);
});

test("migrate() replaces functions once when twenty processes find them outdated at once", async () => {
  const { sql, url } = await migratedDatabase();
  await sql`update orchestratum.setting set functions_hash = ${`0.0.1 ${"0".repeat(64)}`}`;
  const pools = Array.from({ length: 20 }, () => postgres(url, { max: 1, onnotice: () => {} }));
  const results = await Promise.all(pools.map((pool) => migrate(postgresJs(pool))));
  await Promise.all(pools.map((pool) => pool.end()));
  expect(results.filter(({ functionsReplaced }) => functionsReplaced)).toHaveLength(1);
});

test("migrate() reports what the database refuses, and leaves nothing behind", async () => {
  const { sql } = await emptyDatabase();
  await sql`create schema orchestratum`;
  await expect(migrate(postgresJs(sql))).rejects.toMatchObject({ code: "42P06" });
  expect(await catalog(postgresJs(sql))).not.toContain("command");
});

test("migrate() replaces functions when their hash differs, and drops what is no more", async () => {
  const { sql } = await migratedDatabase();
  const driver = postgresJs(sql);
  const before = await catalog(driver);
  await sql`create function orchestratum.of_an_earlier_release() returns int language sql as 'select 1'`;
  await sql`drop function orchestratum.next_due`;
  await sql`update orchestratum.setting set functions_hash = ${`0.0.1 ${"0".repeat(64)}`}`;
  expect((await migrationState(driver)).functions).toBe("outdated");
  expect(await migrate(driver)).toEqual({ applied: [], functionsReplaced: true, newer: false });
  expect(await catalog(driver)).toBe(before);
  expect((await migrationState(driver)).functions).toBe("current");
});

test("migrate() keeps who may call a function, through a change of its arguments", async () => {
  const { sql } = await migratedDatabase();
  const role = `caller_${Math.random().toString(36).slice(2)}`;
  await sql.unsafe(`create role ${role}`);
  try {
    await sql.unsafe(`
      grant usage on schema orchestratum to ${role};
      revoke execute on all functions in schema orchestratum from public;
      drop function orchestratum.claim;
      create function orchestratum.claim(an_older_argument int) returns void language sql as '';
      revoke execute on function orchestratum.claim from public;
      grant execute on function orchestratum.claim to ${role} with grant option;
      grant execute on function orchestratum.expire_history to ${role};
      update orchestratum.setting set functions_hash = null;
    `);
    await migrate(postgresJs(sql));
    const may = async (name: string, right = "execute"): Promise<unknown> => {
      const rows = await sql`
        select has_function_privilege(${role}, p.oid, ${right}) as may from pg_proc p
        where p.pronamespace = 'orchestratum'::regnamespace and p.proname = ${name}`;
      return rows[0]?.may;
    };
    expect(await may("claim")).toBe(true);
    expect(await may("claim", "execute with grant option")).toBe(true);
    expect(await may("expire_history")).toBe(true);
    expect(await may("expire_history", "execute with grant option")).toBe(false);
    expect(await may("finish")).toBe(false);
    // Those of another role too: nothing came back to PUBLIC.
    const open = await sql`
      select p.proname from pg_proc p
      where p.pronamespace = 'orchestratum'::regnamespace
        and (p.proacl is null or exists (select from aclexplode(p.proacl) a where a.grantee = 0))`;
    expect([...open]).toEqual([]);
  } finally {
    await sql.unsafe(`drop owned by ${role}; drop role ${role}`).simple();
  }
});

test("migrate() gives functions that another role creates to the schema's owner", async () => {
  const { sql } = await emptyDatabase();
  const role = `owner_${Math.random().toString(36).slice(2)}`;
  await sql.unsafe(`create role ${role}`);
  try {
    await migrate(postgresJs(sql));
    await sql.unsafe(
      `alter schema orchestratum owner to ${role}; update orchestratum.setting set functions_hash = null`,
    );
    await migrate(postgresJs(sql));
    const owners = await sql`
      select distinct p.proowner::regrole::text as owner from pg_proc p
      where p.pronamespace = 'orchestratum'::regnamespace`;
    expect([...owners]).toEqual([{ owner: role }]);
  } finally {
    await sql.unsafe(`reassign owned by ${role} to current_user; drop owned by ${role}; drop role ${role}`).simple();
  }
});

test("migrate() names what depends on a function, and changes nothing", async () => {
  const { sql } = await migratedDatabase();
  await sql`create view public.mine as select orchestratum.history_slot(now(), true) as slot`;
  await sql`update orchestratum.setting set functions_hash = null`;
  const before = await catalog(postgresJs(sql));
  await expect(migrate(postgresJs(sql))).rejects.toMatchObject({
    code: "2BP01",
    detail: expect.stringContaining("mine"),
  });
  expect(await catalog(postgresJs(sql))).toBe(before);
});

test("migrate() leaves a database alone that a newer release has migrated", async () => {
  const { sql } = await migratedDatabase();
  const driver = postgresJs(sql);
  await sql`update orchestratum.setting set functions_hash = ${`999.0.0 ${"f".repeat(64)}`}`;
  expect((await migrationState(driver)).functions).toBe("newer");
  expect(await migrate(driver)).toEqual({ applied: [], functionsReplaced: false, newer: true });

  await sql`update orchestratum.setting set functions_hash = null`;
  await sql`insert into orchestratum.migration (version, name) values (9999, 'from_the_future')`;
  expect(await migrationState(driver)).toMatchObject({ unknown: ["9999_from_the_future"], pending: [] });
  expect(await migrate(driver)).toEqual({ applied: [], functionsReplaced: false, newer: true });
  await expect(migrateDown(driver)).rejects.toThrow(
    /^Cannot undo migration "9999_from_the_future": release .* does not know it; use the release that applied it$/,
  );
});

test("migrate() builds nothing into SQL that somebody wrote into table setting", async () => {
  const { sql } = await migratedDatabase();
  await sql`update orchestratum.setting set functions_hash = ${"'; drop schema public; --"}`;
  await expect(migrate(postgresJs(sql))).rejects.toThrow(/^Cannot migrate: setting.functions_hash is /);
});

test("migrateDown() undoes one migration after the other, and migrate() applies them again", async () => {
  const { sql } = await emptyDatabase();
  const driver = postgresJs(sql);
  const states: string[] = [];
  for (const { up } of migrations) {
    await sql.unsafe(up).simple();
    states.push(await catalog(driver));
  }
  await migrate(driver);
  const whole = await catalog(driver);
  for (const name of names.toReversed()) {
    expect(await migrateDown(driver)).toBe(name);
    const expected = states[names.indexOf(name) - 1];
    // The functions stay, for whoever works on: they are another matter than the tables.
    const tables = (text: string): string => text.replace(/-- functions\n[^]*(?=-- triggers)/, "");
    if (expected !== undefined) expect(tables(await catalog(driver))).toBe(tables(expected));
  }
  expect([...(await sql`select from pg_namespace where nspname = 'orchestratum'`)]).toEqual([]);
  expect(await migrateDown(driver)).toBe(undefined);

  await migrate(driver);
  await migrateDown(driver);
  expect(await migrate(driver)).toEqual({ applied: names.slice(-1), functionsReplaced: true, newer: false });
  expect(await catalog(driver)).toBe(whole);
});

test("migrateDown() of the statistics leaves no duty behind that nobody does any more", async () => {
  const { sql } = await migratedDatabase();
  await sql`insert into orchestratum.duty (name, next_run_at) values ('retention', now()), ('statistics', now())`;
  while ((await migrateDown(postgresJs(sql))) !== "0005_create_statistics");
  expect([...(await sql`select name from orchestratum.duty`)]).toEqual([{ name: "retention" }]);
});

test.each(["user", "app_1", "_"])("migrate() works in schema %j, beside another one", async (schema) => {
  const { sql } = await migratedDatabase();
  const driver = postgresJs(sql);
  expect(await migrate(driver, { schema })).toEqual({ applied: names, functionsReplaced: true, newer: false });
  expect(await catalog(driver, schema)).toContain("<schema>.");
  expect((await catalog(driver, schema)).match(/orchestratum\.|'orchestratum'/g)).toBe(null);
  const [pushed] = await sql.unsafe(`select "${schema}".push('a', '1') as id`);
  expect([...(await sql.unsafe(`select id from "${schema}".command`))]).toEqual([{ id: pushed?.id }]);
  expect([...(await sql`select id from orchestratum.command`)]).toEqual([]);

  await sql.unsafe(`update "${schema}".setting set functions_hash = null`);
  expect((await migrate(driver, { schema })).functionsReplaced).toBe(true);
  for (const name of names.toReversed()) expect(await migrateDown(driver, { schema })).toBe(name);
  expect((await migrationState(driver, { schema })).applied).toEqual([]);
  expect((await migrationState(driver)).applied).toEqual(names);
});

test.each(["", "Upper", 'a"; drop schema public; --'])("migrate() refuses schema %j before any I/O", async (schema) => {
  const driver = { name: "none", query: () => expect.fail("I/O"), script: () => expect.fail("I/O") };
  await expect(migrate(driver, { schema })).rejects.toThrow(TypeError);
  await expect(migrateDown(driver, { schema })).rejects.toThrow(TypeError);
  expect(() => migrationScript({ schema })).toThrow(TypeError);
});

test("migrationScript() refuses a migration that does not exist", () => {
  for (const from of [-1, 0.5, migrations.length + 1]) expect(() => migrationScript({ from })).toThrow(RangeError);
});

/** Applies a script as an operator would: with psql where there is one, else as psql does, in one message. */
async function applyByHand({ url, sql }: Database, text: string): Promise<void> {
  const psql = await run("psql", ["--version"]).catch(() => undefined);
  if (psql === undefined) {
    await sql.unsafe(text).simple();
    return;
  }
  const child = run("psql", ["-X", "-q", "-v", "ON_ERROR_STOP=1", "-f", "-", url]);
  child.child.stdin?.end(text);
  await child;
}

test("sql/install.sql gives the same as migrate(), and refuses to be applied twice", async () => {
  const database = await emptyDatabase();
  const driver = postgresJs(database.sql);
  const text = readFileSync(file("../sql/install.sql"), "utf8");
  await applyByHand(database, text);
  const installed = await catalog(driver);
  expect(installed).toBe(await catalog(postgresJs((await migratedDatabase()).sql)));
  expect(await migrate(driver)).toEqual({ applied: [], functionsReplaced: false, newer: false });

  await database.sql`insert into orchestratum.handler (name, version, hooks, seen_at) values ('a', 1, '{}', now())`;
  await expect(applyByHand(database, text)).rejects.toThrow(/schema "orchestratum" already exists/);
  expect(await catalog(driver)).toBe(installed);
  expect([...(await database.sql`select name from orchestratum.handler`)]).toEqual([{ name: "a" }]);
});

test("migrationScript() gives the same as migrate(), for any schema and from any migration", async () => {
  const expected = await catalog(postgresJs((await migratedDatabase()).sql));
  for (let from = 0; from <= migrations.length; from += 1) {
    const database = await emptyDatabase();
    for (const { up } of migrations.slice(0, from)) {
      await database.sql.unsafe(up.replaceAll("orchestratum", "other")).simple();
    }
    await applyByHand(database, migrationScript({ schema: "other", from }));
    const driver = postgresJs(database.sql);
    expect(await catalog(driver, "other")).toBe(expected.replaceAll("orchestratum", "other"));
    expect(await migrate(driver, { schema: "other" })).toEqual({ applied: [], functionsReplaced: false, newer: false });
  }
});

test("migrate() gives the same on PGlite as on a server", async () => {
  await using database = await pglite();
  expect(await migrate(database)).toEqual({ applied: names, functionsReplaced: true, newer: false });
  // Newer servers store a not-null as a constraint with a name; PGlite may be of another version than the server.
  const comparable = (text: string): string => text.replaceAll(/^.*_not_null .*\n/gm, "");
  const server = await catalog(postgresJs((await migratedDatabase()).sql));
  expect(comparable(await catalog(database))).toBe(comparable(server));
});

test("migrate() needs no session: each of its statements may go to another connection", async () => {
  const { sql, url } = await emptyDatabase();
  const own = postgresJs(sql);
  const elsewhere = async <T>(work: (driver: typeof own) => Promise<T>): Promise<T> => {
    const pool = postgres(url, { max: 1, prepare: false, onnotice: () => {} });
    try {
      return await work(postgresJs(pool));
    } finally {
      await pool.end();
    }
  };
  await migrate({
    name: "pooler",
    query: (text, params) => elsewhere((driver) => driver.query(text, params)),
    script: (text) => elsewhere((driver) => driver.script(text)),
  });
  expect((await migrationState(own)).pending).toEqual([]);
});

test("sql.generated.ts has what sql/ has", () => {
  expect(functions.length).toBeGreaterThan(10);
  expect(queries.migrationState).not.toContain("--");
});
