import { expect, test } from "vitest";
import { createDatabase } from "../database.ts";
import { runExample } from "./run-example.ts";

const lines = [
  "order o-1 is placed",
  "the event is failed:",
  "  confirmation failed at attempt 2: The mail server does not answer",
  "  inventory succeeded at attempt 1",
  "dead letter: deliver:confirmation: The mail server does not answer",
  "retried: 1",
  "mail to ada@example.com: We have your order o-1",
  "the event is handled",
  "in the projection: 4900 cents, reserved, confirmed",
  "POST /orders",
  "  push place_order",
  "    execute place_order: succeeded",
  "      deliver confirmation: retry",
  "        retry confirmation",
  "      deliver confirmation: failed",
  "      deliver confirmation: succeeded",
  "        publish orders.events.order_confirmed",
  "      deliver inventory: succeeded",
  "        publish orders.events.stock_reserved",
  "      publish orders.events.order_placed",
  "",
];

test("orders/main.ts delivers, retries a dead letter, follows by a projection and prints its trace, embedded", async () => {
  const example = runExample("orders/main", ["o-1"]);
  expect(await example.ended, example.output).toBe(0);
  expect(example.output).toBe(`pglite: ${lines.join("\n")}`);
}, 150_000);

test("orders/main.ts does the same on a server, where what it wrote is there once", async () => {
  await using server = await createDatabase({ migrated: false });
  const example = runExample("orders/main", ["o-1"], { DATABASE_URL: server.url });
  expect(await example.ended, example.output).toBe(0);
  expect(example.output).toBe(`postgres-js: ${lines.join("\n")}`);
  const [left] = await server.sql`
    select s.pieces, (select count(*)::int from shop_order_summary) as orders from shop_stock s`;
  expect(left).toEqual({ pieces: 9, orders: 1 });

  // A second order in the same database goes on where the first one has left it.
  const second = runExample("orders/main", ["o-2"], { DATABASE_URL: server.url });
  expect(await second.ended, second.output).toBe(0);
  const [then] = await server.sql`
    select s.pieces, (select count(*)::int from shop_order_summary) as orders from shop_stock s`;
  expect(then).toEqual({ pieces: 8, orders: 2 });
}, 300_000);
