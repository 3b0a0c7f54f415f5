/** A worker as a process of its own on Node.js. */
import { once } from "node:events";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { hostname } from "node:os";
import process from "node:process";
import type { Orchestrator } from "../src/index.ts";
import { type Fetch, type HttpServer, type Platform, type RunWorkerOptions, runOn } from "./run-worker.ts";

export type { LogLevel } from "../src/log.ts";
export { handlersFrom } from "./handlers-from.ts";
export { healthCheck } from "./health.ts";
export { type LogOptions, logObservations } from "./log-observations.ts";
export type { Fetch, HttpOptions, RunWorkerOptions } from "./run-worker.ts";

/**
 * Starts a worker and resolves when the orchestrator has stopped: after a signal, or because somebody stopped it. With
 * `http` it serves HTTP beside: health for whoever watches over containers, or a router (this takes the package
 * `@hono/node-server`).
 *
 * The first signal drains: nothing more is claimed, and running handlers have `graceMs` to finish. The second one
 * aborts them at once, hands back what they ran, and ends the process 5 s after that, where something still keeps it.
 * The third one is not caught, and ends the process.
 *
 * @example
 * ```ts
 * const database = postgresJs(process.env.DATABASE_URL);
 * const orchestrator = createOrchestrator({ database, handlers });
 * logObservations(orchestrator);
 * await runWorker(orchestrator, { concurrency: 50, http: { port: 8080 } });
 * await database.close();
 * ```
 */
export async function runWorker(orchestrator: Orchestrator, options: RunWorkerOptions = {}): Promise<void> {
  await runOn(nodePlatform, orchestrator, options);
}

/** This adapter runs on Bun and Deno, too, which say that they are a Node as well. */
function runtimeText(): string {
  const { bun, deno, node } = process.versions;
  return bun ? `bun ${bun}` : deno ? `deno ${deno}` : `node ${node}`;
}

export const nodePlatform: Platform = {
  runtime: runtimeText(),
  // Asked for when it is needed: Deno wants a permission for it.
  get host() {
    return hostname();
  },
  addSignalListener: (signal, heard) => void process.on(signal, heard),
  removeSignalListener: (signal, heard) => void process.off(signal, heard),
  exitAfter: (ms) => void setTimeout(() => process.exit(), ms).unref(),
  serve,
};

async function serve(fetch: Fetch, port: number, host: string): Promise<HttpServer> {
  const { getRequestListener } = await import("@hono/node-server").catch((error: unknown) => {
    throw new TypeError(
      "Cannot serve HTTP: the package @hono/node-server is not installed: npm install @hono/node-server",
      {
        cause: error,
      },
    );
  });
  const listener = getRequestListener(fetch, { overrideGlobalObjects: false });
  const server = createServer((request, response) => void listener(request, response));
  // Node would cut a request off after five minutes, and NDJSON may come for hours; the router limits bodies itself.
  server.requestTimeout = 0;
  server.listen(port, host);
  await once(server, "listening");
  return { port: (server.address() as AddressInfo).port, close: (graceMs) => close(server, graceMs) };
}

async function close(server: Server, graceMs: number): Promise<void> {
  const closed = once(server, "close");
  server.close();
  server.closeIdleConnections();
  const timer = setTimeout(() => server.closeAllConnections(), graceMs);
  await closed;
  clearTimeout(timer);
}
