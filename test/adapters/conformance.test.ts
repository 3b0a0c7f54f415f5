import { PGlite } from "@electric-sql/pglite";
import { afterAll, beforeAll, describe, test } from "vitest";
import { pglite } from "../../adapters/pglite.ts";
import { postgresJs } from "../../adapters/postgres-js.ts";
import { migrate } from "../../src/index.ts";
import { cases, type Ground } from "../conformance.ts";
import { createDatabase, type Database } from "../database.ts";

describe("postgres.js", () => {
  let database: Database;
  let ground: Ground;
  beforeAll(async () => {
    database = await createDatabase({ max: 8 });
    ground = {
      driver: postgresJs(database.sql),
      transaction: async (work) => void (await database.sql.begin((tx) => work(postgresJs(tx)))),
    };
  });
  afterAll(() => database.drop());
  for (const { name, run } of cases) test(name, { timeout: 180_000 }, () => run(ground));
});

describe("PGlite", () => {
  let instance: PGlite;
  let ground: Ground;
  beforeAll(async () => {
    instance = await PGlite.create();
    const driver = pglite(instance);
    await migrate(driver);
    ground = {
      driver,
      transaction: (work) => instance.transaction((tx) => work(pglite(tx))),
    };
  });
  afterAll(() => instance.close());
  for (const { name, run } of cases) test(name, { timeout: 180_000 }, () => run(ground));
});
