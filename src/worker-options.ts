/** The options of a worker, their defaults and their limits. */
import {
  dayMs,
  type Keys,
  maxConcurrency,
  requireInteger,
  requireKeys,
  requireMs,
  requireQueues,
  requireStoredText,
} from "./limits.ts";

export interface WorkerOptions {
  /** Queues to serve. The queue named after the orchestrator's instance is served too. @default ["default"] */
  readonly queues?: readonly string[];
  /** How many handlers run at once, 1 to 100,000. @default 100 */
  readonly concurrency?: number;
  /** Most commands of one claim, 1 to 1,000. @default the concurrency, at most 500 */
  readonly maxClaim?: number;
  /** How long the worker sleeps at most where notifications do not arrive, in ms, at least 10. @default 5_000 */
  readonly pollIntervalMs?: number;
  /**
   * How long it sleeps at most where they do, in ms. To be raised where a database that is left alone goes to sleep.
   *
   * @default as pollIntervalMs
   */
  readonly idlePollMs?: number;
  /**
   * How long a command stays with a worker that is not heard of, in ms, at least 1,000. A heartbeat extends it at a
   * third, so it need not be as long as a handler takes.
   *
   * @default 30_000
   */
  readonly leaseMs?: number;
  /** After how many leases that ended without a word a command fails without running again, 1 to 100. @default 3 */
  readonly maxLosses?: number;
  /** How long a handler that was aborted may go on before it counts as stuck and its slot is freed, in ms. @default 5_000 */
  readonly abortGraceMs?: number;
  /** The share of the time that rescanning may take, over 0 to 1. @default 0.02 */
  readonly rescanBudget?: number;
  /**
   * End a command as `not_found` when no worker has known its name for this long, in ms. A name that some worker has
   * registered counts as known for three minutes after it was last heard of.
   *
   * @default never: it waits
   */
  readonly notFoundAfterMs?: number;
  /** What it runs on, such as `node 24.1.0`, 200 characters at most: shown in the list of workers. @default what the process says of itself */
  readonly runtime?: string;
  /** The machine that it runs on, 200 characters at most: shown in the list of workers. @default none; `runWorker` knows */
  readonly host?: string;
}

const workerKeys: Keys<WorkerOptions> = {
  queues: true,
  concurrency: true,
  maxClaim: true,
  pollIntervalMs: true,
  idlePollMs: true,
  leaseMs: true,
  maxLosses: true,
  abortGraceMs: true,
  rescanBudget: true,
  notFoundAfterMs: true,
  runtime: true,
  host: true,
};

export type ResolvedWorkerOptions = Required<Omit<WorkerOptions, "notFoundAfterMs" | "runtime" | "host">> & {
  readonly notFoundAfterMs: number | undefined;
  readonly runtime: string | undefined;
  readonly host: string | undefined;
};

const maxLabelLength = 200;

/** What this is, by what every runtime says of itself; undefined where it says nothing. */
function runtimeHere(): string | undefined {
  const { process: here, navigator: agent } = globalThis as {
    readonly process?: { readonly versions?: Readonly<Record<string, string | undefined>> };
    readonly navigator?: { readonly userAgent?: string };
  };
  const { bun, deno, node } = here?.versions ?? {};
  if (bun !== undefined) return `bun ${bun}`;
  if (deno !== undefined) return `deno ${deno}`;
  const name = agent?.userAgent?.slice(0, maxLabelLength) || undefined;
  // Edge platforms that are compatible with Node say its version, too.
  return node !== undefined && (name === undefined || name.startsWith("Node.js")) ? `node ${node}` : name;
}

/** The options with their defaults. The queue named after the instance is among the queues. */
export function resolveWorkerOptions(
  options: WorkerOptions | undefined,
  instance: string | undefined,
): ResolvedWorkerOptions {
  const attempt = "Cannot start worker";
  requireKeys(attempt, options, workerKeys);
  const {
    queues = ["default"],
    concurrency = 100,
    maxClaim = Math.min(concurrency, 500),
    pollIntervalMs = 5_000,
    idlePollMs = pollIntervalMs,
    leaseMs = 30_000,
    maxLosses = 3,
    abortGraceMs = 5_000,
    rescanBudget = 0.02,
    notFoundAfterMs,
    runtime = runtimeHere(),
    host,
  } = options ?? {};
  requireQueues(attempt, queues);
  const served = [...new Set(instance === undefined ? queues : [...queues, instance])];
  if (served.length === 0) throw new RangeError(`${attempt}: queues must name at least one queue`);
  requireInteger(attempt, "concurrency", concurrency, 1, maxConcurrency);
  requireInteger(attempt, "maxClaim", maxClaim, 1, 1_000);
  requireInteger(attempt, "leaseMs", leaseMs, 1_000, dayMs);
  requireInteger(attempt, "pollIntervalMs", pollIntervalMs, 10, dayMs);
  requireInteger(attempt, "idlePollMs", idlePollMs, 10, dayMs);
  requireInteger(attempt, "maxLosses", maxLosses, 1, 100);
  requireMs(attempt, "abortGraceMs", abortGraceMs, dayMs);
  if (notFoundAfterMs !== undefined) requireMs(attempt, "notFoundAfterMs", notFoundAfterMs, 366 * dayMs);
  if (!(rescanBudget > 0 && rescanBudget <= 1)) {
    throw new RangeError(`${attempt}: rescanBudget must be over 0 and at most 1, got ${rescanBudget}`);
  }
  if (runtime !== undefined) requireStoredText(attempt, "runtime", runtime, maxLabelLength);
  if (host !== undefined) requireStoredText(attempt, "host", host, maxLabelLength);
  return {
    queues: served,
    concurrency,
    maxClaim,
    pollIntervalMs,
    idlePollMs,
    leaseMs,
    maxLosses,
    abortGraceMs,
    rescanBudget,
    notFoundAfterMs,
    runtime,
    host,
  };
}
