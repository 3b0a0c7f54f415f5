/**
 * A tick: works off what is due and comes back, where no process lives for long (a timer of an edge platform, a cron
 * job, a test). It is a worker with a budget: it claims, executes and finishes as every worker does, but neither sleeps
 * nor listens, and ends when nothing is due, or its budget is used up. What could not be finished by then is aborted and
 * handed back, as by a worker that is stopped.
 */
import type { Clock } from "./clock.ts";
import type { Database } from "./database.ts";
import type { Hints } from "./hints.ts";
import { type Keys, maxConcurrency, requireInteger, requireKeys, requireMs, requireQueues } from "./limits.ts";
import type { Observer } from "./observation.ts";
import type { Budget, OwnWorker, WorkerCounts } from "./worker.ts";
import type { WorkerOptions } from "./worker-options.ts";

export interface TickOptions {
  /** How many commands it claims at most, 1 to 100,000. @default 1_000 */
  readonly maxCommands?: number;
  /**
   * How long it works, in ms, 100 to 3,600,000: what runs by then is aborted and handed back. It comes back at once
   * then, and at the latest after `abortGraceMs` and 5 s more where a handler or the database does not answer.
   *
   * @default 20_000
   */
  readonly maxMs?: number;
  /** Queues to serve. The queue named after the orchestrator's instance is served too. @default ["default"] */
  readonly queues?: readonly string[];
  /** How many handlers run at once, 1 to 100,000. @default 100, at most maxCommands */
  readonly concurrency?: number;
  /** How long a handler that was aborted is waited for, in ms, at most 60,000. @default 1_000 */
  readonly abortGraceMs?: number;
}

/** What an adapter may say of a tick, too. */
export interface OwnTickOptions extends TickOptions {
  /** When it comes back at the latest, in ms from its beginning. @default `maxMs` + `abortGraceMs` + 5 s */
  readonly latestMs?: number;
}

const tickKeys: Keys<OwnTickOptions> = {
  maxCommands: true,
  maxMs: true,
  queues: true,
  concurrency: true,
  abortGraceMs: true,
  latestMs: true,
};

/** What a tick did, and when the next one should come. */
export interface TickResult extends Omit<WorkerCounts, "running"> {
  /** Whether something is due now: the budget was used up. True, too, where the database could not be asked. */
  readonly more: boolean;
  /** When something is due next, by the database's clock; in the past where `more`. Undefined where nothing waits. */
  readonly nextDueAt: Date | undefined;
  /** In how many ms that is: 0 where more is due. Undefined where nothing waits but what may still be pushed. */
  readonly comeBackInMs: number | undefined;
}

export interface Ticking {
  /**
   * Works off what is due, follow-ups among it, and does the background work of the fleet that is due; then comes back
   * with what was done. Nothing is left running, but handlers that ignore their signal (`stuck`). Any number of ticks
   * and workers may run at once, here and elsewhere. What a tick held that was killed is due again after its leases'
   * end, `maxMs` and a few seconds after it began, 30 s at most.
   *
   * A command with `retries: 0`, which must not be started twice, is put off to the next tick where neither its timeout
   * nor half of `maxMs` is left for it.
   *
   * @throws TypeError or RangeError for options out of their limits; NotMigratedError; whatever the database refused
   * the first statement with, where that does not pass within `maxMs`.
   */
  tick(options?: TickOptions): Promise<TickResult>;
}

export interface TickingParts {
  readonly database: Database;
  readonly clock: Clock;
  readonly hints: Hints;
  readonly report: Observer;
  /** @throws where none may be started now. */
  readonly startWorker: (database: Database, options: WorkerOptions, budget: Budget) => OwnWorker;
}

const attempt = "Cannot tick";
const longestLeaseMs = 30_000;
const shortestLeaseMs = 1_000;
/** What a worker that stops may take to record its outcomes. */
const flushMs = 5_000;
/** A name counts as known for three minutes after its handler was registered. */
const registerEveryMs = 60_000;
/** Where the database could not be asked when something is due: not at once, since it is in trouble. */
const afterTroubleMs = 5_000;

export function createTicking({ database, clock, hints, report, startWorker }: TickingParts): Ticking {
  /** When a tick of these queues has registered last: each set of them is a worker of its own to the fleet. */
  const begunAt = new Map<string, number>();

  async function tick(given?: OwnTickOptions): Promise<TickResult> {
    requireKeys(attempt, given, tickKeys);
    const options = given ?? {};
    const { maxCommands = 1_000, maxMs = 20_000, queues = ["default"], abortGraceMs = 1_000 } = options;
    const { concurrency = Math.min(100, maxCommands), latestMs = maxMs + abortGraceMs + flushMs } = options;
    requireInteger(attempt, "maxCommands", maxCommands, 1, 100_000);
    requireInteger(attempt, "maxMs", maxMs, 100, 3_600_000);
    requireInteger(attempt, "concurrency", concurrency, 1, maxConcurrency);
    requireMs(attempt, "abortGraceMs", abortGraceMs, 60_000);
    requireQueues(attempt, queues);

    const startedAt = clock.now();
    const endsAt = startedAt + maxMs;
    const latest = startedAt + latestMs;
    const served = JSON.stringify(queues.toSorted());
    const begun = startedAt - (begunAt.get(served) ?? Number.NEGATIVE_INFINITY) < registerEveryMs;
    const worker = startWorker(
      endingBy(latest, database, clock),
      {
        queues,
        concurrency,
        abortGraceMs,
        // As long as it can take, so that what a killed tick held is soon due again; heartbeats keep longer ones alive.
        leaseMs: Math.max(Math.min(longestLeaseMs, Math.ceil(latestMs)), shortestLeaseMs),
      },
      { maxCommands, maxMs, endsAt, latest, begun },
    );
    const timer = clock.after(maxMs, () => void worker.stop({ graceMs: 0 }));
    try {
      await worker.started;
      if (!begun) {
        for (const [key, at] of begunAt) if (startedAt - at >= registerEveryMs) begunAt.delete(key);
        begunAt.set(served, startedAt);
      }
      await worker.worked;
      await worker.stop({ graceMs: Math.max(endsAt - clock.now(), 0) });
      const ahead = await look(worker);
      await hints.flush(latest - clock.now());
      const { running: _, ...counts } = worker.counts;
      return { ...counts, ...ahead };
    } finally {
      timer.cancel();
      await worker.stop({ graceMs: 0 });
    }
  }

  async function look(worker: OwnWorker): Promise<Pick<TickResult, "more" | "nextDueAt" | "comeBackInMs">> {
    try {
      const next = await worker.dueInMs();
      if (!next) return { more: false, nextDueAt: undefined, comeBackInMs: undefined };
      return { more: next.ms <= 0, nextDueAt: next.at, comeBackInMs: Math.max(Math.ceil(next.ms), 0) };
    } catch (error) {
      report({ type: "database_trouble", operation: "nextDue", error, attempt: 1 });
      return { more: true, nextDueAt: undefined, comeBackInMs: afterTroubleMs };
    }
  }

  return { tick };
}

/** A database of which no answer is waited for any longer than until `latest`. */
function endingBy(latest: number, database: Database, clock: Clock): Database {
  return {
    driver: database.driver,
    schema: database.schema,
    run(statement, params, options = {}) {
      const leftMs = Math.max(latest - clock.now(), 1);
      return database.run(statement, params, {
        ...options,
        deadlineMs: Math.min(options.deadlineMs ?? leftMs, 30_000, leftMs),
      });
    },
  };
}
