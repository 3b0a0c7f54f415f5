/** Publishes events without streams, 1,000 a call, one call after the other. argv: url, how many. Answers what was taken. */
import process from "node:process";
import postgres from "postgres";
import { postgresJs } from "../../adapters/postgres-js.ts";
import { createOrchestrator } from "../../src/index.ts";
import { answer, endWithParent, stopwatch } from "./parent.ts";
import { orderOf, orderPlaced } from "./shop-event.ts";
import { sayTroubles } from "./troubles.ts";

const [url, count] = process.argv.slice(2) as [string, string];
endWithParent();
const sql = postgres(url, { max: 4, onnotice: () => {} });
const orchestrator = createOrchestrator({ database: postgresJs(sql), observe: sayTroubles });
await sql`select 1`;
const taken = stopwatch();
for (let i = 0; i < Number(count); i += 1_000) {
  await orchestrator.publish(Array.from({ length: 1_000 }, (_, j) => orderPlaced(orderOf(i + j))));
}
answer(taken());
