import { expect, test } from "vitest";
import { createDatabase } from "../database.ts";
import { runExample } from "./run-example.ts";

test("transactional-push.ts commits a row and its command together, or neither", async () => {
  await using database = await createDatabase({ migrated: false });
  const example = runExample("transactional-push", [], { DATABASE_URL: database.url });
  expect(await example.ended).toBe(0);
  // What the handler prints and what the program prints of its outcome come in either order.
  expect(example.output.trim().split("\n").toSorted()).toEqual(
    [
      "pushed, not committed: nobody else sees it",
      "sent invoice 1",
      "committed: succeeded",
      "pushed, not committed: nobody else sees it",
      "rolled back: an invoice over -5 is refused",
      "rows and commands that the rollback left: 0 and 0",
    ].toSorted(),
  );
  expect(await database.sql`select amount from example_invoice`).toEqual([{ amount: 100 }]);
  const commands = await database.sql`select status, input from orchestratum.all_commands where name = 'send_invoice'`;
  expect(commands).toEqual([{ status: "succeeded", input: { invoice: 1 } }]);
});

test("transactional-push.ts says that it needs DATABASE_URL", async () => {
  const example = runExample("transactional-push");
  expect(await example.ended).toBe(1);
  expect(example.output).toBe(
    "Cannot start: DATABASE_URL must name a PostgreSQL server, as in postgres://user:password@host:5432/name\n",
  );
});
