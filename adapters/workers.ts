/**
 * Edge platforms, where no process lives between requests: Cloudflare Workers, and what is like them. `edge()` makes the
 * module's handlers: `fetch` mounts a router, `scheduled` works off what is due. Each invocation opens what it uses and
 * closes it: a connection cannot be shared between requests there. `edgeObject()` makes a Durable Object, which lives on,
 * and so can listen and work all the time.
 */
import type { Orchestrator, TickOptions, TickResult, WorkerOptions } from "../src/index.ts";
import { requireInteger } from "../src/limits.ts";
import type { OwnTickOptions } from "../src/tick.ts";
import { within } from "./within.ts";

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
   * How long the platform lets an invocation live, in ms, 2,000 to 900,000. Opening, the tick and closing end before that,
   * whatever the database and the handlers do; the tick's leases end soon after.
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

const attempt = "Cannot run on an edge platform";
/** Aborted handlers have this long to settle. */
const abortGraceMs = 500;
/** The shortest time that a tick may have. */
const minTickMs = 100;

/** The times of an invocation, in ms from its beginning: one after the other, each before the platform's limit. */
interface Times {
  /** When handlers are aborted. */
  readonly abortMs: number;
  /** When the tick has come back, its outcomes recorded. */
  readonly tickedMs: number;
  /** When stopping is given up, and then closing. */
  readonly stoppedMs: number;
  readonly closedMs: number;
}

/** A fifth of the limit is kept, but no less than recording takes, and no more than it can. */
function timesOf(limitMs: number): Times {
  const keptMs = Math.min(Math.max(limitMs / 5, 1_500), 10_000);
  const [abortMs, tickedMs, stoppedMs, closedMs] = [1, 3 / 8, 5 / 16, 1 / 4].map((part) =>
    Math.floor(limitMs - keptMs * part),
  ) as [number, number, number, number];
  return { abortMs, tickedMs, stoppedMs, closedMs };
}

/**
 * @example
 * ```ts
 * export default edge<Env>({
 *   async open(env) {
 *     const database = postgresJs(env.HYPERDRIVE.connectionString, { max: 5 });
 *     return { orchestrator: createOrchestrator({ database, handlers }), close: () => database.close() };
 *   },
 *   router: (orchestrator, env) => router(orchestrator, { authorise: tokenAuthoriser([{ name: "shop", token: env.TOKEN, scopes: ["push"] }]) }),
 * });
 * ```
 * @throws TypeError or RangeError for a `limitMs` out of its limits.
 */
export function edge<Env = unknown>(options: EdgeOptions<Env>): EdgeHandlers<Env> {
  const { open, router, limitMs = 30_000, tick = {}, onTick } = options;
  requireInteger(attempt, "limitMs", limitMs, 2_000, 900_000);
  const times = timesOf(limitMs);
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
      const ticked = runTick(() => open(env), times, tick, onTick);
      context.waitUntil(ticked);
      await ticked;
    },
  };
}

async function runTick(
  open: () => Opened | Promise<Opened>,
  { abortMs, tickedMs, stoppedMs, closedMs }: Times,
  options: EdgeOptions<unknown>["tick"],
  onTick: EdgeOptions<unknown>["onTick"],
): Promise<void> {
  const begunAt = performance.now();
  const leftMs = (endMs: number): number => begunAt + endMs - performance.now();
  const opening = (async () => await open())();
  const opened = await within(leftMs(abortMs - minTickMs), opening);
  if (opened === undefined) {
    opening.then(closeAll).catch(() => {});
    throw new Error(`${attempt}: what \`open\` opens was not there within ${abortMs - minTickMs} ms`);
  }
  const { orchestrator, close } = opened;
  try {
    const own: OwnTickOptions = {
      ...options,
      maxMs: Math.max(Math.floor(leftMs(abortMs)), minTickMs),
      abortGraceMs,
      latestMs: leftMs(tickedMs),
    };
    const result = await orchestrator.tick(own);
    onTick?.(result);
  } finally {
    try {
      await within(leftMs(stoppedMs), orchestrator.stop({ graceMs: 0 }));
    } finally {
      if (close) await within(leftMs(closedMs), close());
    }
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
