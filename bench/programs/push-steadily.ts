/**
 * Pushes at a steady rate. argv: url, commands a second. Ready when it has begun; goes on until it is asked, and then
 * answers how many it pushed a second.
 */
import process from "node:process";
import postgres from "postgres";
import { postgresJs } from "../../adapters/postgres-js.ts";
import { createOrchestrator } from "../../src/index.ts";
import { measured } from "./measured.ts";
import { answer, pause, ready, untilAsked } from "./parent.ts";
import { sayTroubles } from "./troubles.ts";

const [url, rate] = process.argv.slice(2) as [string, string];
const sql = postgres(url, { max: 4, onnotice: () => {} });
const orchestrator = createOrchestrator({ database: postgresJs(sql), commands: [measured], observe: sayTroubles });
let asked = false;
void untilAsked().then(() => {
  asked = true;
});
await orchestrator.push(measured(0));
ready();
const begun = performance.now();
let pushed = 0;
while (!asked) {
  const due = ((performance.now() - begun) / 1000) * Number(rate) - pushed;
  // At most 500 at once: a pusher that was kept waiting does not make up for it by a flood.
  if (due >= 1) {
    const count = Math.min(Math.floor(due), 500);
    await orchestrator.push(Array.from({ length: count }, (_, index) => measured(pushed + index)));
    pushed += count;
  }
  await pause(10);
}
answer(pushed / ((performance.now() - begun) / 1000));
