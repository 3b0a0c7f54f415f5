/**
 * The same program on the embedded database and on a server: one line is another. Events, streams, readers and commands
 * are the same code over the same tables. `npx tsx examples/embedded-to-server.ts`, with DATABASE_URL for the server.
 */
import process from "node:process";
import { createOrchestrator, defineEvent } from "orchestratum";
import { pglite } from "orchestratum/pglite";
import { postgresJs } from "orchestratum/postgres-js";
import * as v from "valibot";

const url = process.env.DATABASE_URL;
await using database = url ? postgresJs(url) : await pglite();

const orderPlaced = defineEvent({
  topic: "orders.events.order_placed",
  data: v.object({ order: v.string(), cents: v.number() }),
});

await using orchestrator = createOrchestrator({ database });
await orchestrator.migrate();

const totals = new Map<string, number>();
let done = () => {};
const read = new Promise<void>((resolve) => {
  done = resolve;
});
await using reader = orchestrator.startReader({
  name: "totals",
  topics: "orders.#",
  events: [orderPlaced],
  handle(events) {
    for (const { data } of events) totals.set(data.order, (totals.get(data.order) ?? 0) + data.cents);
    if (totals.get("o-2") === 700) done();
  },
});
await reader.started;

await orchestrator.append("order-1", orderPlaced({ order: "o-1", cents: 500 }), { expectedVersion: 0 });
await orchestrator.append("order-2", [
  orderPlaced({ order: "o-2", cents: 300 }),
  orderPlaced({ order: "o-2", cents: 400 }),
]);
await read;
console.log(`${database.name}: ${[...totals].map(([order, cents]) => `${order} ${cents}`).join(", ")}`);
