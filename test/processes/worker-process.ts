/** A worker as a process: argv[2] is the JSON of `WorkerProcessOptions`. Says on stdout what it observes, as JSON lines. */
import process from "node:process";
import postgres from "postgres";
import { runWorker } from "../../adapters/node.ts";
import { postgresJs } from "../../adapters/postgres-js.ts";
import { createOrchestrator, type WorkerOptions } from "../../src/index.ts";
import { handlersWith } from "./commands.ts";

export interface WorkerProcessOptions {
  readonly url: string;
  /** Where its handlers note each start. */
  readonly log: string;
  readonly worker: WorkerOptions;
}

const { url, log, worker } = JSON.parse(process.argv[2] as string) as WorkerProcessOptions;
const sql = postgres(url, { max: 4, onnotice: () => {} });
const orchestrator = createOrchestrator({
  database: postgresJs(sql),
  handlers: handlersWith(log, sql),
  observe: (observation) => {
    if (observation.type === "command_started") return;
    if (observation.type === "command_finished" && observation.verdict === "succeeded") return;
    process.stdout.write(`${JSON.stringify(observation)}\n`);
  },
});
await runWorker(orchestrator, { graceMs: 2_000, ...worker });
await sql.end({ timeout: 2 });
