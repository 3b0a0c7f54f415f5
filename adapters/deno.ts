/**
 * A worker as a process of its own on Deno. It needs `--allow-net` for the database (and for the port, with `http`), and
 * `--allow-env` for `PG*`, which the clients of PostgreSQL look for. With `--allow-sys=hostname` the list of workers
 * shows the machine; `handlersFrom` needs `--allow-read` for the folder.
 */
import type { Orchestrator } from "../src/index.ts";
import { type Platform, type RunWorkerOptions, runOn } from "./run-worker.ts";

export type { LogLevel } from "../src/log.ts";
export { handlersFrom } from "./handlers-from.ts";
export { healthCheck } from "./health.ts";
export { type LogOptions, logObservations } from "./log-observations.ts";
export type { Fetch, HttpOptions, RunWorkerOptions } from "./run-worker.ts";

/** What is used of Deno, so that the types need no package of their own. */
interface DenoLike {
  readonly version: { readonly deno: string };
  readonly permissions: { querySync(of: { name: "sys"; kind: "hostname" }): { readonly state: string } };
  hostname(): string;
  addSignalListener(signal: string, heard: () => void): void;
  removeSignalListener(signal: string, heard: () => void): void;
  unrefTimer(id: unknown): void;
  exit(): never;
  serve(
    options: { port: number; hostname: string; signal: AbortSignal; onListen: () => void },
    handler: (request: Request) => Response | Promise<Response>,
  ): { readonly addr: { readonly port: number }; shutdown(): Promise<void> };
}

/**
 * Starts a worker and resolves when the orchestrator has stopped: after a signal, or because somebody stopped it. With
 * `http` it serves HTTP beside, by `Deno.serve`.
 *
 * The first signal drains: nothing more is claimed, and running handlers have `graceMs` to finish. The second one
 * aborts them at once, hands back what they ran, and ends the process 5 s after that, where something still keeps it.
 * The third one is not caught, and ends the process.
 *
 * @example
 * ```ts
 * // deno run --allow-net=db.example.com:5432,0.0.0.0:8080 --allow-env="DATABASE_URL,PG*" worker.ts
 * const database = postgresJs(Deno.env.get("DATABASE_URL"));
 * const orchestrator = createOrchestrator({ database, handlers });
 * await runWorker(orchestrator, { concurrency: 50, http: { port: 8080, hostname: "0.0.0.0" } });
 * await database.close();
 * ```
 */
export async function runWorker(orchestrator: Orchestrator, options: RunWorkerOptions = {}): Promise<void> {
  await runOn(denoPlatform(), orchestrator, options);
}

export function denoPlatform(): Platform {
  const deno = (globalThis as { Deno?: DenoLike }).Deno;
  if (deno === undefined)
    throw new TypeError("Cannot run on Deno: this is another runtime: orchestratum/node is Node's");
  const mayTell = deno.permissions.querySync({ name: "sys", kind: "hostname" }).state === "granted";
  return {
    runtime: `deno ${deno.version.deno}`,
    host: mayTell ? deno.hostname() : undefined,
    addSignalListener: (signal, heard) => deno.addSignalListener(signal, heard),
    removeSignalListener: (signal, heard) => deno.removeSignalListener(signal, heard),
    exitAfter: (ms) => deno.unrefTimer(setTimeout(() => deno.exit(), ms)),
    async serve(fetch, port, hostname) {
      const cut = new AbortController();
      const options = { port, hostname, signal: cut.signal, onListen: () => {} };
      const server = deno.serve(options, (request) => fetch(request));
      return {
        port: server.addr.port,
        async close(graceMs) {
          const timer = setTimeout(() => cut.abort(), graceMs);
          await server.shutdown();
          clearTimeout(timer);
        },
      };
    },
  };
}
