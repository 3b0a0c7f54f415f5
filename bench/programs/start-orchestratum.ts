/**
 * Starts handlers, and notes when: this library, one idle worker with its default settings. argv: url. Ready when it
 * works; answers a list of [key of the input, shared clock at the handler's start].
 */
import process from "node:process";
import postgres from "postgres";
import { postgresJs } from "../../adapters/postgres-js.ts";
import { createOrchestrator } from "../../src/index.ts";
import { measured } from "./measured.ts";
import { answer, pause, ready, sharedNow, untilAsked } from "./parent.ts";
import { sayTroubles } from "./troubles.ts";

const [url] = process.argv.slice(2) as [string];
const sql = postgres(url, { max: 10, onnotice: () => {} });
const starts: [number, number][] = [];
const orchestrator = createOrchestrator({
  database: postgresJs(sql),
  handlers: [measured.handle(({ input }) => void starts.push([input as number, sharedNow()]))],
  observe: sayTroubles,
});
const listening = new Promise<void>((resolve) =>
  orchestrator.observe((observation) => {
    if (observation.type === "listening" && observation.proven) resolve();
  }),
);
await orchestrator.startWorker().started;
await listening;
ready();
await untilAsked();
// What was pushed last may still be on its way.
await pause(500);
await orchestrator.stop();
answer(starts);
