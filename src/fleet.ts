/** Who works, on all machines together, and whose turn it was at the background work: what the database was told of it. */
import type { Database } from "./database.ts";

/** A worker of the fleet: what it said of itself, what it runs now, and what it has ended in the last 24 hours. */
export interface FleetWorker {
  /** New at every start; of ticks `tick:` (or their instance) and their queues. */
  readonly id: string;
  /** The `instance` of its orchestrator. */
  readonly instance: string | undefined;
  /** `lost`: it has not said so, but was not heard of when it had to be. */
  readonly status: "running" | "lost" | "stopped";
  /** Such as `node 24.1.0`; undefined where nobody knows. */
  readonly runtime: string | undefined;
  readonly host: string | undefined;
  readonly queues: readonly string[];
  readonly concurrency: number;
  /** Commands that it has a lease of. Hook commands are left out here and in the counts. */
  readonly running: number;
  /** Succeeded. */
  readonly finished: number;
  /** Failed, timed out or not found. */
  readonly failed: number;
  readonly cancelled: number;
  /** Of what succeeded, failed or timed out; undefined where nothing did. */
  readonly meanExecutionMs: number | undefined;
  readonly startedAt: Date;
  readonly lastSeenAt: Date;
  readonly stoppedAt: Date | undefined;
}

/** Background work of the fleet, done by one worker at a time. */
export interface DutyState {
  /** `retention`, `statistics`, `events`, `rescan <queue>`. */
  readonly name: string;
  /** The worker that is at it now. */
  readonly worker: string | undefined;
  /** When somebody does it next at the earliest: a rescan of a queue without work is not done at all. */
  readonly nextRunAt: Date;
  readonly lastStartedAt: Date | undefined;
  readonly lastFinishedAt: Date | undefined;
  readonly lastDurationMs: number | undefined;
  readonly lastWorker: string | undefined;
  /** Undefined where the last run went well. */
  readonly lastError: string | undefined;
}

export interface Fleet {
  /**
   * All workers that were heard of in the last 24 hours: those that run first, then those that are lost, then those that
   * have stopped, the newest first. A worker says that it is there once a minute, and while it idles once an
   * `idlePollMs` where that is longer: half a minute later it counts as lost. Ticks of an instance that serve the same
   * queues are one worker, which is lost when twice the last distance between them is over, and half a minute. 10,000 at
   * most. It reads all live commands.
   *
   * @throws NotMigratedError.
   */
  workerList(): Promise<FleetWorker[]>;

  /** Every duty, by name: who is at it, when it was last done, and how that went. */
  duties(): Promise<DutyState[]>;
}

interface WorkerRow {
  readonly id: string;
  readonly instance: string | null;
  readonly status: FleetWorker["status"];
  readonly runtime: string | null;
  readonly host: string | null;
  readonly queues: string;
  readonly concurrency: number;
  readonly running: number;
  readonly finished: number;
  readonly failed: number;
  readonly cancelled: number;
  readonly mean_execution_ms: number | null;
  readonly started_at_ms: number;
  readonly last_seen_at_ms: number;
  readonly stopped_at_ms: number | null;
}

interface DutyRow {
  readonly name: string;
  readonly worker: string | null;
  readonly next_run_at_ms: number;
  readonly last_started_at_ms: number | null;
  readonly last_finished_at_ms: number | null;
  readonly last_duration_ms: number | null;
  readonly last_worker: string | null;
  readonly last_error: string | null;
}

export function createFleet(database: Database): Fleet {
  return {
    async workerList() {
      const rows = await database.run<WorkerRow>("listWorkers", []);
      return rows.map((row) => ({
        id: row.id,
        instance: row.instance ?? undefined,
        status: row.status,
        runtime: row.runtime ?? undefined,
        host: row.host ?? undefined,
        queues: JSON.parse(row.queues) as string[],
        concurrency: row.concurrency,
        running: row.running,
        finished: row.finished,
        failed: row.failed,
        cancelled: row.cancelled,
        meanExecutionMs: row.mean_execution_ms ?? undefined,
        startedAt: new Date(row.started_at_ms),
        lastSeenAt: new Date(row.last_seen_at_ms),
        stoppedAt: optionalTime(row.stopped_at_ms),
      }));
    },
    async duties() {
      const rows = await database.run<DutyRow>("listDuties", []);
      return rows.map((row) => ({
        name: row.name,
        worker: row.worker ?? undefined,
        nextRunAt: new Date(row.next_run_at_ms),
        lastStartedAt: optionalTime(row.last_started_at_ms),
        lastFinishedAt: optionalTime(row.last_finished_at_ms),
        lastDurationMs: row.last_duration_ms ?? undefined,
        lastWorker: row.last_worker ?? undefined,
        lastError: row.last_error ?? undefined,
      }));
    },
  };
}

const optionalTime = (ms: number | null): Date | undefined => (ms === null ? undefined : new Date(ms));
