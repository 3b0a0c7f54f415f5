/** Every query of sql/queries prepares on a real server, and speaks only of types that all drivers read alike. */

import { afterAll, beforeAll, expect, test } from "vitest";
import { postgresJs } from "../../adapters/postgres-js.ts";
import { migrate } from "../../src/migrate.ts";
import { schemaSql } from "../../src/schema-name.ts";
import { queries } from "../../src/sql.generated.ts";
import { createDatabase, type Database } from "../database.ts";

/** JSON, times and lists travel as text; a driver may make its own of anything else. int8 never reaches JavaScript. */
const portable = ["text", "integer", "smallint", "boolean", "double precision"];

let database: Database;
beforeAll(async () => {
  database = await createDatabase({ max: 1 });
  await migrate(postgresJs(database.sql), { schema: "user" });
});
afterAll(() => database.drop());

test.each(Object.entries(queries))("%s prepares, with types that travel", async (name, text) => {
  const { sql } = database;
  await sql.unsafe(`prepare statement_${name.toLowerCase()} as ${text}`);
  // PostgreSQL 15 does not tell the types of results.
  const [prepared] = await sql<{ parameters: string[]; results: string[] | null }[]>`
    select to_json(p.parameter_types::text[]) as parameters, to_json(p) -> 'result_types' as results
    from pg_prepared_statements p
    where p.name = ${`statement_${name.toLowerCase()}`}`;
  expect(portable).toEqual(expect.arrayContaining(prepared?.parameters ?? ["none"]));
  expect(portable).toEqual(expect.arrayContaining(prepared?.results ?? []));
});

test.each(Object.entries(queries))("%s prepares in a schema with a reserved word for a name", async (name, text) => {
  await database.sql.unsafe(`prepare other_${name.toLowerCase()} as ${schemaSql(text, "user")}`);
});
