/**
 * Does by the library, in its own process, what load-http.ts asks a router for: as many calls at the same time. argv: url,
 * what, seconds, and for `status` the id of a command. Answers what came of it.
 */
import process from "node:process";
import postgres from "postgres";
import { postgresJs } from "../../adapters/postgres-js.ts";
import { createOrchestrator } from "../../src/index.ts";
import { percentile } from "../figures.ts";
import { batchSize, type Doing, type Load, lanesOf } from "./http-figures.ts";
import { measured } from "./measured.ts";
import { answer, endWithParent, stopwatch } from "./parent.ts";
import { sayTroubles } from "./troubles.ts";

const [url, doing, seconds, id] = process.argv.slice(2) as [string, Doing, string, string?];
endWithParent();
const sql = postgres(url, { max: 10, onnotice: () => {} });
const orchestrator = createOrchestrator({ database: postgresJs(sql), commands: [measured], observe: sayTroubles });
const inputs = Array.from({ length: batchSize }, (_, index) => index);
const act = {
  push: () => orchestrator.push(measured(1)),
  list: () => orchestrator.push(inputs.map((index) => measured(index))),
  lines: () => orchestrator.push(inputs.map((index) => measured(index))),
  status: () => orchestrator.get(id as never),
}[doing];
await act();

const times: number[] = [];
const taken = stopwatch();
const ends = performance.now() + Number(seconds) * 1_000;
async function lane(): Promise<void> {
  while (performance.now() < ends) {
    const begun = performance.now();
    await act();
    times.push(performance.now() - begun);
  }
}
await Promise.all(Array.from({ length: lanesOf[doing] }, lane));
const load: Load = {
  count: times.length * (doing === "list" || doing === "lines" ? batchSize : 1),
  ...taken(),
  p50: percentile(times, 0.5),
  p99: percentile(times, 0.99),
};
answer(load);
