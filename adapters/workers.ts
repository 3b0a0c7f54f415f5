/**
 * Edge platforms, where no process lives between requests: Cloudflare Workers, and what is like them. `edge()` makes the
 * module's handlers: `fetch` mounts a router, `scheduled` works off what is due. Each invocation opens what it uses and
 * closes it: a connection cannot be shared between requests there. `edgeObject()` makes a Durable Object, which lives on,
 * and so can listen and work all the time.
 */
import type { Orchestrator, TickOptions, TickResult, WorkerOptions } from "../src/index.ts";
import { requireInteger } from "../src/limits.ts";

/** What one invocation uses. */
export interface Opened {
  readonly orchestrator: Orchestrator;
  /** Closes the database, after the orchestrator was stopped. */
  readonly close?: () => Promise<unknown>;
}

/** What the platform gives with each invocation. */
export interface EdgeContext {
  waitUntil(promise: Promise<unknown>): void;
}

/** Answers requests: a router, as `orchestratum/hono` makes it. */
export interface EdgeRouter {
  fetch(request: Request): Response | Promise<Response>;
}

export interface EdgeOptions<Env> {
  /** Opens the database and makes the orchestrator, for one invocation. */
  readonly open: (env: Env) => Opened | Promise<Opened>;
  /** Makes what answers requests. @default every request is 404 */
  readonly router?: (orchestrator: Orchestrator, env: Env) => EdgeRouter;
  /**
   * How long the platform lets an invocation live, in ms, 2,000 to 900,000: a tick ends so long before that its outcomes
   * are recorded, and takes leases that end soon after.
   *
   * @default 30_000
   */
  readonly limitMs?: number;
  /** Queues, concurrency and the most commands of a tick. @default as `tick()` has them */
  readonly tick?: Omit<TickOptions, "maxMs" | "abortGraceMs">;
  /** Hears what each tick did. */
  readonly onTick?: (result: TickResult) => void;
}

/** What a module of the platform exports as its default. */
export interface EdgeHandlers<Env> {
  fetch(request: Request, env: Env, context: EdgeContext): Promise<Response>;
  scheduled(controller: unknown, env: Env, context: EdgeContext): Promise<void>;
}

/** Of the platform's limit: aborted handlers have this long to settle. */
const abortGraceMs = 500;
/** Of the platform's limit: to open and close, and to record what was done. */
const aroundMs = 1_000;

/**
 * @example
 * ```ts
 * export default edge<Env>({
 *   async open(env) {
 *     const database = postgresJs(env.HYPERDRIVE.connectionString, { max: 5 });
 *     return { orchestrator: createOrchestrator({ database, handlers }), close: () => database.close() };
 *   },
 *   router: (orchestrator, env) => router(orchestrator, { authorise: tokenAuthoriser([{ … }]) }),
 * });
 * ```
 * @throws TypeError or RangeError for a `limitMs` out of its limits.
 */
export function edge<Env = unknown>(options: EdgeOptions<Env>): EdgeHandlers<Env> {
  const { open, router, limitMs = 30_000, tick = {}, onTick } = options;
  requireInteger("Cannot run on an edge platform", "limitMs", limitMs, 2_000, 900_000);
  // What a tick may take beyond its time is abortGraceMs and, while the database does not answer, the rest.
  const maxMs = Math.max(Math.floor(limitMs * 0.8) - abortGraceMs - aroundMs, 100);
  return {
    async fetch(request, env, context) {
      if (router === undefined) return new Response(null, { status: 404 });
      const opened = await open(env);
      const close = (): void => context.waitUntil(closeAll(opened));
      try {
        return closingAfter(await router(opened.orchestrator, env).fetch(request), close);
      } catch (error) {
        close();
        throw error;
      }
    },
    async scheduled(_, env, context) {
      const ticked = runTick(open, env, { ...tick, maxMs, abortGraceMs }, onTick);
      context.waitUntil(ticked);
      await ticked;
    },
  };
}

async function runTick<Env>(
  open: EdgeOptions<Env>["open"],
  env: Env,
  options: TickOptions,
  onTick: EdgeOptions<Env>["onTick"],
): Promise<void> {
  const opened = await open(env);
  try {
    const result = await opened.orchestrator.tick(options);
    onTick?.(result);
  } finally {
    await closeAll(opened);
  }
}

async function closeAll({ orchestrator, close }: Opened): Promise<void> {
  try {
    await orchestrator.stop();
  } finally {
    await close?.();
  }
}

/** A response may be a stream that still asks the database: what it needs is closed when it has ended or was given up. */
function closingAfter(response: Response, close: () => void): Response {
  if (response.body === null) {
    close();
    return response;
  }
  const reader = response.body.getReader();
  const body = new ReadableStream<Uint8Array>({
    async pull(controller) {
      try {
        const { done, value } = await reader.read();
        if (!done) return controller.enqueue(value);
        controller.close();
      } catch (error) {
        controller.error(error);
      }
      close();
    },
    async cancel(reason) {
      await reader.cancel(reason).finally(close);
    },
  });
  return new Response(body, response);
}

/** What a Durable Object gets of the platform. */
export interface EdgeObjectState {
  readonly storage: { setAlarm(at: number): Promise<void> };
}

export interface EdgeObjectOptions<Env> extends Pick<EdgeOptions<Env>, "open" | "router"> {
  /** Of the worker that runs in it. @default as `startWorker()` has them */
  readonly worker?: WorkerOptions;
}

/** An instance of the class that `edgeObject()` makes. */
export interface EdgeObject {
  /** Starts the worker where it does not run; the router answers, or 204 where there is none. */
  fetch(request: Request): Promise<Response>;
  alarm(): Promise<void>;
}

/** For the list of workers: `Cloudflare-Workers`, say. */
function platform(): { runtime?: string } {
  const { navigator } = globalThis as { navigator?: { userAgent?: string } };
  return navigator?.userAgent === undefined ? {} : { runtime: navigator.userAgent };
}

/** An object that nobody asks is put away after ten seconds; an alarm before that keeps it. */
const alarmMs = 5_000;

/**
 * The class of a Durable Object with a worker in it: any request to it starts the worker, and from then on it listens,
 * and works off what is pushed as any worker does. When the platform moves or restarts it, its alarm starts it again.
 * The orchestrator and its connections belong to the object and are opened once.
 *
 * @example
 * ```ts
 * export const Worker = edgeObject<Env>({ open });
 * // once, by a timer say: await env.WORKER.get(env.WORKER.idFromName("worker")).fetch("https://worker/");
 * ```
 */
export function edgeObject<Env = unknown>(
  options: EdgeObjectOptions<Env>,
): new (
  state: EdgeObjectState,
  env: Env,
) => EdgeObject {
  const { open, router, worker } = options;
  return class {
    readonly #state: EdgeObjectState;
    readonly #env: Env;
    #opened: Promise<Opened> | undefined;
    #router: EdgeRouter | undefined;

    constructor(state: EdgeObjectState, env: Env) {
      this.#state = state;
      this.#env = env;
    }

    async fetch(request: Request): Promise<Response> {
      const { orchestrator } = await this.#start();
      if (router === undefined) return new Response(null, { status: 204 });
      this.#router ??= router(orchestrator, this.#env);
      return await this.#router.fetch(request);
    }

    async alarm(): Promise<void> {
      await this.#start();
    }

    async #start(): Promise<Opened> {
      await this.#state.storage.setAlarm(Date.now() + alarmMs);
      this.#opened ??= this.#open();
      return await this.#opened;
    }

    async #open(): Promise<Opened> {
      try {
        const opened = await open(this.#env);
        opened.orchestrator.startWorker({ ...platform(), ...worker });
        return opened;
      } catch (error) {
        this.#opened = undefined;
        throw error;
      }
    }
  };
}
