/**
 * What vitest runs once, before and after all tests: a PostgreSQL server (the one at DATABASE_URL where that is given),
 * and on it a migrated template from which each test file's database is cloned.
 */

import postgres from "postgres";
import { postgresJs } from "../adapters/postgres-js.ts";
import { migrate } from "../src/migrate.ts";
import { databasePrefix, serverVariable, templateVariable, withServer } from "./database.ts";
import { startPostgres } from "./postgres.ts";

export default async function setup(): Promise<() => Promise<void>> {
  const given = process.env.DATABASE_URL;
  const own = given ? undefined : await startPostgres();
  const server = own?.url ?? given ?? "";
  const template = `${databasePrefix}template_${process.pid}`;
  try {
    await withServer(server, (sql) => sql.unsafe(`create database ${template} template template0`));
    const url = new URL(server);
    url.pathname = `/${template}`;
    const sql = postgres(url.href, { max: 1, onnotice: () => {} });
    await migrate(postgresJs(sql));
    await sql.end();
  } catch (error) {
    await own?.stop();
    throw error;
  }
  // The processes that run the tests are started after this one, and inherit it.
  process.env[serverVariable] = server;
  process.env[templateVariable] = template;
  return async () => {
    if (own === undefined)
      await withServer(server, (sql) => sql.unsafe(`drop database if exists ${template} with (force)`));
    await own?.stop();
  };
}
