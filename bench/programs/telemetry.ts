/**
 * What observing costs the process that works: commands are drained with and without it, in turns that begin with
 * another one each time. argv: url, how many commands a turn, rounds. Answers CPU seconds of this process per million
 * commands, by way and round.
 */
import process from "node:process";
import { context } from "@opentelemetry/api";
import { AsyncLocalStorageContextManager } from "@opentelemetry/context-async-hooks";
import {
  AggregationTemporality,
  InMemoryMetricExporter,
  MeterProvider,
  PeriodicExportingMetricReader,
} from "@opentelemetry/sdk-metrics";
import { BasicTracerProvider, BatchSpanProcessor, InMemorySpanExporter } from "@opentelemetry/sdk-trace-base";
import postgres from "postgres";
import { openTelemetry } from "../../adapters/opentelemetry.ts";
import { postgresJs } from "../../adapters/postgres-js.ts";
import { createOrchestrator, defineCommand, logTo, type OrchestratorOptions, observing } from "../../src/index.ts";
import { answer, endWithParent } from "./parent.ts";

endWithParent();
const [url, count, rounds] = process.argv.slice(2) as [string, string, string];
const sql = postgres(url, { max: 10, onnotice: () => {} });
const database = postgresJs(sql);
const noop = defineCommand({ name: "noop" });

context.setGlobalContextManager(new AsyncLocalStorageContextManager().enable());
const exporter = new InMemorySpanExporter();
const tracerProvider = new BasicTracerProvider({ spanProcessors: [new BatchSpanProcessor(exporter)] });
// Without a reader nothing would be added up.
const reader = new PeriodicExportingMetricReader({
  exporter: new InMemoryMetricExporter(AggregationTemporality.CUMULATIVE),
  exportIntervalMillis: 2 ** 31 - 1,
});
const meterProvider = new MeterProvider({ readers: [reader] });

const ways: Readonly<Record<string, () => Partial<OrchestratorOptions>>> = {
  nothing: () => ({}),
  "nothing, again": () => ({}),
  "an observer of some types": () => ({ observe: observing(["lease_lost", "handler_stuck"], () => {}) }),
  "an observer of all": () => ({ observe: () => {} }),
  "logTo at info": () => ({ observe: logTo(() => {}) }),
  "openTelemetry without an SDK": () => ({ telemetry: openTelemetry() }),
  "openTelemetry with the SDK": () => ({ telemetry: openTelemetry({ tracerProvider, meterProvider }) }),
};

async function turn(options: Partial<OrchestratorOptions>): Promise<number> {
  const total = Number(count);
  await sql`truncate orchestratum.command, orchestratum.history`;
  const orchestrator = createOrchestrator({ database, handlers: [noop.handle(() => {})], ...options });
  const producer = createOrchestrator({ database });
  for (let pushed = 0; pushed < total; pushed += 1_000) {
    await producer.push(Array.from({ length: 1_000 }, () => noop()));
  }
  await producer.stop();
  exporter.reset();
  globalThis.gc?.();
  const before = process.cpuUsage();
  const worker = orchestrator.startWorker({ concurrency: 200 });
  while (worker.counts.succeeded < total) await new Promise((resolve) => setTimeout(resolve, 2));
  const { user, system } = process.cpuUsage(before);
  await orchestrator.stop();
  return (user + system) / total;
}

const names = Object.keys(ways);
const taken = new Map(names.map((name) => [name, [] as number[]]));
for (const name of names) await turn((ways[name] as () => Partial<OrchestratorOptions>)());
for (let round = 0; round < Number(rounds); round++) {
  for (let place = 0; place < names.length; place++) {
    const name = names[(round + place) % names.length] as string;
    taken.get(name)?.push(await turn((ways[name] as () => Partial<OrchestratorOptions>)()));
  }
}
await sql.end();

answer(Object.fromEntries(taken));
