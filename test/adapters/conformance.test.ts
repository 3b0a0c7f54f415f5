import { PGlite } from "@electric-sql/pglite";
import { afterAll, beforeAll, describe, test } from "vitest";
import { pglite } from "../../adapters/pglite.ts";
import { postgresJs } from "../../adapters/postgres-js.ts";
import { migrate } from "../../src/index.ts";
import { askingCases } from "../asking-cases.ts";
import { type Case, cases, type Ground } from "../conformance.ts";
import { controlCases } from "../control-cases.ts";
import { createDatabase, type Database } from "../database.ts";
import { executionCases } from "../execution-cases.ts";
import { statisticsCases } from "../statistics-cases.ts";
import { transactionCases } from "../transaction-cases.ts";

const suites: Readonly<Record<string, readonly Case[]>> = {
  commands: cases,
  asking: askingCases,
  execution: executionCases,
  control: controlCases,
  statistics: statisticsCases,
  transactions: transactionCases,
};

function runAll(ground: () => Ground): void {
  for (const [suite, list] of Object.entries(suites)) {
    describe(suite, () => {
      for (const { name, run } of list) test(name, { timeout: 180_000 }, () => run(ground()));
    });
  }
}

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
  runAll(() => ground);
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
  runAll(() => ground);
});
