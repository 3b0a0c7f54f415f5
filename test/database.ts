/** Databases for tests: each test file has its own, cloned from a template that server.ts has migrated. */

import postgres from "postgres";

export interface Database extends AsyncDisposable {
  readonly url: string;
  /** A pool of postgres.js on it, for the tests' own statements or for an adapter. */
  readonly sql: postgres.Sql;
  /** Ends the pool and drops the database, whoever is still connected. A second call is harmless. */
  drop(): Promise<void>;
}

/** Where server.ts tells the processes of the test run what they have. */
export const serverVariable = "ORCHESTRATUM_TEST_SERVER";
export const templateVariable = "ORCHESTRATUM_TEST_TEMPLATE";

/** What all names of databases made here begin with. */
export const databasePrefix = "orchestratum_test_";

let count = 0;

/**
 * Makes a fresh database: with the schema, or without anything where `migrated` is false.
 *
 * `options` are those of its pool. With `fetch_types: false` it survives that its backends are killed (a connection lost
 * while postgres.js asks for the types of arrays ends the test run), but then reads arrays as text.
 */
export async function createDatabase({
  migrated = true,
  ...options
}: { migrated?: boolean } & postgres.Options<Record<string, never>> = {}): Promise<Database> {
  const server = required(serverVariable);
  count += 1;
  const name = `${databasePrefix}${process.pid}_${count}_${Math.random().toString(36).slice(2, 8)}`;
  await withServer(server, (sql) =>
    sql.unsafe(`create database ${name} template ${migrated ? required(templateVariable) : "template0"}`),
  );
  const url = new URL(server);
  url.pathname = `/${name}`;
  const sql = postgres(url.href, { onnotice: () => {}, ...options }) as postgres.Sql;
  const drop = async (): Promise<void> => {
    await sql.end({ timeout: 0 });
    await withServer(server, (admin) => admin.unsafe(`drop database if exists ${name} with (force)`));
  };
  return { url: url.href, sql, drop, [Symbol.asyncDispose]: drop };
}

/** Runs a statement or two on the server's own database. */
export async function withServer<T>(server: string, work: (sql: postgres.Sql) => PromiseLike<T>): Promise<T> {
  const sql: postgres.Sql = postgres(server, { max: 1, onnotice: () => {} });
  try {
    return await work(sql);
  } finally {
    await sql.end({ timeout: 5 });
  }
}

function required(variable: string): string {
  const value = process.env[variable];
  if (value === undefined) throw new Error(`Cannot make a database: ${variable} is not set; run the tests by vitest`);
  return value;
}
