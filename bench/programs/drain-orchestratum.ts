/**
 * Drains preloaded commands by one worker process: this library. argv: url, how many, and the options of its workers as
 * a JSON list, one worker each. Answers what was taken from the workers' start until the last outcome is recorded.
 */
import process from "node:process";
import postgres from "postgres";
import { postgresJs } from "../../adapters/postgres-js.ts";
import { createOrchestrator, defineCommand, type WorkerOptions } from "../../src/index.ts";
import { answer, endWithParent, stopwatch } from "./parent.ts";
import { sayTroubles } from "./troubles.ts";

const [url, count, options] = process.argv.slice(2) as [string, string, string];
endWithParent();
const sql = postgres(url, { max: 5, onnotice: () => {} });
const noop = defineCommand({ name: "noop" });
const orchestrator = createOrchestrator({
  database: postgresJs(sql),
  handlers: [noop.handle(() => {})],
  observe: sayTroubles,
});
await sql`select 1`;
const taken = stopwatch();
const workers = (JSON.parse(options) as WorkerOptions[]).map((each) => orchestrator.startWorker(each));
const recorded = () => workers.reduce((sum, worker) => sum + worker.counts.succeeded, 0);
while (recorded() < Number(count)) await new Promise((resolve) => setTimeout(resolve, 2));
const result = taken();
await orchestrator.stop();
answer(result);
