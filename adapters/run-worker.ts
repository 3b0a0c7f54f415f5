/**
 * A worker as a process of its own, whatever the runtime: it runs until it is told to end, and then ends in good order.
 * What differs between runtimes is a `Platform`: how signals are heard, and how HTTP is served.
 */
import { type Orchestrator, observing, type WorkerOptions } from "../src/index.ts";
import { requireInteger } from "../src/limits.ts";
import { healthCheck } from "./health.ts";

/** Answers requests as `fetch` makes them: a router's `app.fetch`, say. */
export type Fetch = (request: Request) => Response | Promise<Response>;

export interface HttpOptions {
  /** What answers: `app.fetch` of a router. @default answers `GET /health/live` and `GET /health/ready`, and nothing else */
  readonly fetch?: Fetch;
  /** From 0 (any that is free) to 65535. @default 8080 */
  readonly port?: number;
  /** The address to listen at; `"0.0.0.0"` for every one, as containers want it. @default "127.0.0.1" */
  readonly hostname?: string;
  /** Hears where it listens, once it does. */
  readonly onListen?: (address: { readonly hostname: string; readonly port: number }) => void;
}

export interface RunWorkerOptions extends WorkerOptions {
  /** How long running handlers may take to finish after the first signal, in ms. @default 20_000 */
  readonly graceMs?: number;
  /** Those that the runtime knows. @default ["SIGTERM", "SIGINT"] */
  readonly signals?: readonly string[];
  /** Serves HTTP beside the worker, until both have ended. @default none */
  readonly http?: HttpOptions;
}

/** What a runtime has to give. */
export interface Platform {
  /** `node 24.1.0`. */
  readonly runtime: string;
  /** The machine's name, where it may be asked for. */
  readonly host: string | undefined;
  addSignalListener(signal: string, heard: () => void): void;
  removeSignalListener(signal: string, heard: () => void): void;
  /** Ends the process after `ms`, where something keeps it until then; this itself keeps nothing. */
  exitAfter(ms: number): void;
  /** Resolves once it listens. Where the port is taken, it rejects. */
  serve(fetch: Fetch, port: number, hostname: string): Promise<HttpServer>;
}

export interface HttpServer {
  readonly port: number;
  /** Takes no more requests, lets those under way end for as long as `graceMs`, and cuts what is left. */
  close(graceMs: number): Promise<void>;
}

/** How long answers under way may take once everything else has stopped. */
const httpGraceMs = 1_000;
/** How long the caller may take to close what is its own, after a second signal. */
const exitAfterMs = 5_000;

/**
 * Starts a worker, and serves HTTP where that is asked for; resolves when the orchestrator has stopped: after a signal,
 * or because somebody stopped it. `worker` is false for a process that only serves HTTP: that one ends by a signal.
 *
 * The first signal drains: nothing more is claimed, running handlers have `graceMs` to finish, and `/health/ready` says
 * 503. The second one aborts them at once, hands back what they ran, and ends the process 5 s after that, where a handler
 * that goes on keeps it. The third one is not caught, and ends the process.
 */
export async function runOn(
  platform: Platform,
  orchestrator: Orchestrator,
  options: RunWorkerOptions & { readonly worker?: boolean } = {},
): Promise<void> {
  const { graceMs, signals = ["SIGTERM", "SIGINT"], http, worker: hasWorker = true, ...workerOptions } = options;
  let heard = 0;
  let stopping: Promise<void> | undefined;
  let stopped = (): void => {};
  const ended = new Promise<void>((resolve) => {
    stopped = resolve;
  });
  const stop = (): void => {
    heard += 1;
    if (heard === 2) ignoreSignals();
    const stopOptions = heard === 2 ? { graceMs: 0 } : graceMs === undefined ? {} : { graceMs };
    const next = orchestrator.stop(stopOptions);
    // The same end, asked for twice: where it fails it is thrown below.
    next.catch(() => {}).finally(stopped);
    stopping ??= next;
  };
  const ignoreSignals = (): void => {
    for (const signal of signals) platform.removeSignalListener(signal, stop);
  };

  const isDraining = (): boolean => heard > 0;
  const server = http === undefined ? undefined : await listen(platform, http, orchestrator, isDraining);
  const { runtime, host } = platform;
  let stopObserving = (): void => {};
  try {
    if (hasWorker) {
      const worker = orchestrator.startWorker({ runtime, ...(host === undefined ? {} : { host }), ...workerOptions });
      stopObserving = orchestrator.observe(
        observing(["worker_stopped"], (observation) => {
          if (observation.worker === worker.id) stopped();
        }),
      );
      // What it meets while it starts is observed, and it goes on; that it was stopped before it had begun is no failure.
      worker.started.catch(() => {});
    }
    for (const signal of signals) platform.addSignalListener(signal, stop);
    await ended;
    await (stopping ?? orchestrator.stop());
  } finally {
    ignoreSignals();
    stopObserving();
    await server?.close(httpGraceMs);
    if (heard > 1) platform.exitAfter(exitAfterMs);
  }
}

async function listen(
  platform: Platform,
  http: HttpOptions,
  orchestrator: Orchestrator,
  isDraining: () => boolean,
): Promise<HttpServer> {
  const { fetch = healthCheck(orchestrator), port = 8080, hostname = "127.0.0.1", onListen } = http;
  requireInteger("Cannot serve HTTP", "port", port, 0, 65_535);
  const server = await platform.serve(draining(fetch, isDraining), port, hostname);
  onListen?.({ hostname, port: server.port });
  return server;
}

/** A router cannot know that its process is about to end: whoever sends it requests is told here, wherever it is mounted. */
function draining(fetch: Fetch, isDraining: () => boolean): Fetch {
  return (request) => {
    if (!isDraining() || !new URL(request.url).pathname.endsWith("/health/ready")) return fetch(request);
    return Response.json({ status: "draining" }, { status: 503, headers: { "Cache-Control": "no-store" } });
  };
}
