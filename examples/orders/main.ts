/**
 * A shop: an order is placed by a command, which publishes an event; a confirmation is sent and the stock is reserved by
 * subscribers, and a projection follows. The mail server is down, so the confirmation ends as a dead letter, holds up
 * nobody, and is retried when the fault is over. `npx tsx examples/orders/main.ts`, with DATABASE_URL for a server.
 */
import { randomUUID } from "node:crypto";
import process from "node:process";
import { setTimeout as pause } from "node:timers/promises";
import { createOrchestrator } from "orchestratum";
import { placeOrder } from "./contracts.ts";
import { handlersOf } from "./handlers.ts";
import { startSummary, summaryOf } from "./projection.ts";
import { createTables, embedded, server } from "./store.ts";
import { keepTraces } from "./traces.ts";

const url = process.env.DATABASE_URL;
await using store = url ? server(url) : await embedded(); // all that differs between the two

let mailServerIsUp = false;
const mailer = {
  async send({ to, text }: { to: string; text: string }) {
    if (!mailServerIsUp) throw new Error("The mail server does not answer");
    console.log(`mail to ${to}: ${text}`);
  },
};

const { tracer, telemetry, tree } = keepTraces();
const { database } = store;
await using orchestrator = createOrchestrator({ database, handlers: handlersOf(store, mailer), telemetry });
await orchestrator.migrate();
await createTables(store);
await orchestrator.startWorker().started; // stores the subscriptions
await startSummary(orchestrator, store).started;

const order = process.argv[2] ?? randomUUID();
const placed = await tracer.startActiveSpan("POST /orders", async (span) => {
  const input = { order, customer: "ada@example.com", product: "lamp", cents: 4_900 };
  const { id } = await orchestrator.push(placeOrder(input));
  const outcome = await orchestrator.waitFor(id);
  span.end();
  if (outcome.status !== "succeeded") throw new Error(`The order was not placed: ${outcome.error?.message}`);
  return outcome.output.event;
});
console.log(`${database.name}: order ${order} is placed`);

/** Waits until the event is `wanted`, and no delivery of it waits or runs. */
async function settled(wanted: string) {
  for (;;) {
    const event = await orchestrator.eventStatus(placed);
    if (event?.status === wanted && event.deliveries.every(({ finishedAt }) => finishedAt)) return event;
    await pause(20);
  }
}

const { status, deliveries } = await settled("failed");
console.log(`the event is ${status}:`);
for (const { subscription, status, attempt, error } of deliveries) {
  console.log(`  ${subscription} ${status} at attempt ${attempt}${error ? `: ${error.message}` : ""}`);
}

const confirmations = { subscription: "confirmation" };
for (const { name, error } of (await orchestrator.deadLetters(confirmations)).commands) {
  console.log(`dead letter: ${name}: ${error?.message}`);
}
mailServerIsUp = true;
const { count } = await orchestrator.retryDeadLetters(confirmations, { by: "ada" });
console.log(`retried: ${count}`);
console.log(`the event is ${(await settled("handled")).status}`);

let summary = await summaryOf(store, order);
while (!summary?.is_confirmed || !summary.is_reserved) {
  await pause(20);
  summary = await summaryOf(store, order);
}
console.log(`in the projection: ${summary.cents} cents, reserved, confirmed`);

await orchestrator.stop(); // what was under way has ended, so its spans have, too
console.log(tree().join("\n"));
