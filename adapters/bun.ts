/** A worker as a process of its own on Bun. */
import { hostname } from "node:os";
import process from "node:process";
import type { Orchestrator } from "../src/index.ts";
import { type Platform, type RunWorkerOptions, runOn } from "./run-worker.ts";

export type { LogLevel } from "../src/log.ts";
export { handlersFrom } from "./handlers-from.ts";
export { healthCheck } from "./health.ts";
export { type LogOptions, logObservations } from "./log-observations.ts";
export type { Fetch, HttpOptions, RunWorkerOptions } from "./run-worker.ts";

/** What is used of Bun, so that the types need no package of their own. */
interface BunLike {
  readonly version: string;
  serve(options: {
    port: number;
    hostname: string;
    idleTimeout: number;
    fetch: (request: Request) => Response | Promise<Response>;
  }): { readonly port: number; stop(closeActiveConnections?: boolean): Promise<void> };
}

/**
 * Starts a worker and resolves when the orchestrator has stopped: after a signal, or because somebody stopped it. With
 * `http` it serves HTTP beside, by `Bun.serve`.
 *
 * The first signal drains: nothing more is claimed, and running handlers have `graceMs` to finish. The second one
 * aborts them at once, hands back what they ran, and ends the process 5 s after that, where something still keeps it.
 * The third one is not caught, and ends the process.
 *
 * @example
 * ```ts
 * // bun run worker.ts
 * const sql = new SQL(process.env.DATABASE_URL);
 * const orchestrator = createOrchestrator({ database: bunSql(sql), handlers });
 * await runWorker(orchestrator, { concurrency: 50, http: { port: 8080, hostname: "0.0.0.0" } });
 * await sql.close();
 * ```
 */
export async function runWorker(orchestrator: Orchestrator, options: RunWorkerOptions = {}): Promise<void> {
  await runOn(bunPlatform(), orchestrator, options);
}

export function bunPlatform(): Platform {
  const bun = (globalThis as { Bun?: BunLike }).Bun;
  if (bun === undefined) throw new TypeError("Cannot run on Bun: this is another runtime: orchestratum/node is Node's");
  return {
    runtime: `bun ${bun.version}`,
    host: hostname(),
    addSignalListener: (signal, heard) => void process.on(signal, heard),
    removeSignalListener: (signal, heard) => void process.off(signal, heard),
    exitAfter: (ms) => void setTimeout(() => process.exit(), ms).unref(),
    async serve(fetch, port, host) {
      // Streams of events may be silent for longer than the ten seconds after which Bun would close them.
      const server = bun.serve({ port, hostname: host, idleTimeout: 0, fetch: (request) => fetch(request) });
      return {
        port: server.port,
        async close(graceMs) {
          const closed = server.stop();
          const timer = setTimeout(() => void server.stop(true), graceMs);
          await closed;
          clearTimeout(timer);
        },
      };
    },
  };
}
