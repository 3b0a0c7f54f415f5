/**
 * Drains what is preloaded by one worker: deliveries of an event, or the same as plain commands. argv: url, how many, what.
 * Answers what was taken from the worker's start until the last outcome is recorded.
 */
import process from "node:process";
import postgres from "postgres";
import { postgresJs } from "../../adapters/postgres-js.ts";
import { createOrchestrator, subscribe } from "../../src/index.ts";
import { answer, endWithParent, stopwatch } from "./parent.ts";
import { orderPlaced, placeOrder } from "./shop-event.ts";
import { sayTroubles } from "./troubles.ts";

const [url, count, what] = process.argv.slice(2) as [string, string, string];
endWithParent();
const sql = postgres(url, { max: 10, onnotice: () => {} });
const handler =
  what === "deliveries"
    ? subscribe({ name: "bench", to: orderPlaced, handler: () => {} })
    : placeOrder.handle(() => {});
const orchestrator = createOrchestrator({ database: postgresJs(sql), handlers: [handler], observe: sayTroubles });
await sql`select 1`;
const taken = stopwatch();
const worker = orchestrator.startWorker({ concurrency: 4_000, maxClaim: 1_000 });
while (worker.counts.succeeded < Number(count)) await new Promise((resolve) => setTimeout(resolve, 2));
const result = taken();
await orchestrator.stop();
answer(result);
