import { expect, test } from "vitest";
import { createDatabase } from "../database.ts";
import { runExample } from "./run-example.ts";

test("embedded-to-server.ts does the same on both", async () => {
  await using server = await createDatabase({ migrated: false });
  const embedded = runExample("embedded-to-server");
  expect(await embedded.ended).toBe(0);
  expect(embedded.output).toBe("pglite: o-1 500, o-2 700\n");
  const served = runExample("embedded-to-server", [], { DATABASE_URL: server.url });
  expect(await served.ended).toBe(0);
  expect(served.output).toBe("postgres-js: o-1 500, o-2 700\n");
}, 150_000);
