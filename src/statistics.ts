/**
 * How it goes: what there is now, from the live commands, and what came of the last 24 hours, from small rows that a
 * duty adds to as commands finish. What it costs depends on how many commands live and how many names there are, not on
 * how much has finished.
 */
import type { Clock } from "./clock.ts";
import type { Database } from "./database.ts";
import { type Keys, requireBoolean, requireKeys } from "./limits.ts";
import { addHistogram, type Histogram, percentilesMs } from "./percentile.ts";

/** How long something took, in ms. Percentiles are right within 19 %: they come from buckets of that width. */
export interface Durations {
  /** How many the figures are of: those that succeeded, failed or timed out. */
  readonly count: number;
  readonly meanMs: number;
  readonly p50Ms: number;
  readonly p95Ms: number;
  readonly p99Ms: number;
}

/** Figures of some commands: `scheduled`, `pending` and `running` are of now, the others of the last 24 hours. */
export interface Figures {
  /** Waits for its time: a schedule, or a retry. */
  readonly scheduled: number;
  /** Is due, and no worker has it. */
  readonly pending: number;
  readonly running: number;
  /** Succeeded. */
  readonly finished: number;
  /** Failed, timed out or not found. */
  readonly failed: number;
  readonly cancelled: number;
  /** From when it was wanted until its last attempt began. Undefined where there is none that counts. */
  readonly waiting: Durations | undefined;
  /** From when its last attempt began until it ended. Undefined where there is none that counts. */
  readonly execution: Durations | undefined;
  /** When the pending command was wanted that has been wanted for longest; undefined where none is pending. */
  readonly oldestDueAt: Date | undefined;
}

export interface QueueFigures extends Figures {
  readonly queue: string;
}

export interface NameFigures extends Figures {
  readonly name: string;
}

/** Figures of one worker: what it runs now, and what it has ended in the last 24 hours. */
export interface WorkerFigures {
  /** Its id, new at every start. */
  readonly worker: string;
  readonly running: number;
  readonly finished: number;
  readonly failed: number;
  readonly cancelled: number;
  /** How long what it ended had waited: from when it was wanted until its last attempt began. Undefined where there is none that counts. */
  readonly waiting: Durations | undefined;
  /** From when its last attempt began until it ended. Undefined where there is none that counts. */
  readonly execution: Durations | undefined;
}

/** Lists are sorted by what they are of. What has neither live commands nor any that ended in that time is left out. */
export interface Stats {
  /** When it was read, by the database's clock. */
  readonly at: Date;
  /** From when finished commands are counted: 24 hours before, at the next full five minutes. */
  readonly since: Date;
  /** Up to when they are counted: a minute or so before, where workers run. Undefined: they have not been counted yet. */
  readonly until: Date | undefined;
  readonly queues: readonly QueueFigures[];
  readonly names: readonly NameFigures[];
  readonly workers: readonly WorkerFigures[];
}

export interface StatsOptions {
  /** Count hook commands, too. @default false */
  readonly hooks?: boolean;
}

const statsKeys: Keys<StatsOptions> = { hooks: true };

/** What an orchestrator knows of how it goes. */
export interface Statistics {
  /**
   * How it goes, by queue, by name and by worker. It may be asked as often as one likes: a process reads once a second,
   * however many ask, and they share what it finds.
   *
   * What is live is counted exactly, by reading all live commands: some tenths of a second for a million. What has
   * finished is counted a minute or so later by a duty of the workers (longer where a worker's lease is longer, see
   * `until`), and once for each time that it finished, if it was tried again. It takes no time for how much has finished.
   *
   * @throws TypeError for a `hooks` that is no boolean; NotMigratedError.
   */
  stats(options?: StatsOptions): Promise<Stats>;
}

interface StatsRow {
  readonly at_ms: number;
  readonly since_ms: number;
  readonly until_ms: number | null;
  readonly live: string | null;
  readonly past: string | null;
  readonly waiting: string | null;
  readonly execution: string | null;
}

interface LiveItem {
  readonly queue: string;
  readonly name: string;
  readonly status: "scheduled" | "pending" | "running";
  readonly worker: string | null;
  readonly count: number;
  readonly oldest_due_ms: number;
}

/** Of a worker where that is named, else of a queue and a name. */
type PastOf =
  | { readonly worker: string; readonly queue: null; readonly name: null }
  | { readonly worker: null; readonly queue: string; readonly name: string };

type PastItem = PastOf & {
  readonly status: string;
  readonly count: number;
  readonly waiting_ms: number;
  readonly execution_ms: number;
};

type HistogramItem = PastOf & {
  readonly histogram: Readonly<Record<string, number>>;
};

/** What one read answers is good for as long as this, and while it is under way. */
const sharedForMs = 1_000;

interface Reading {
  readonly since: number;
  readonly stats: Promise<Stats>;
  underWay: boolean;
}

export function createStatistics(database: Database, clock: Clock): Statistics {
  const readings = new Map<boolean, Reading>();

  function read(hooks: boolean): Reading {
    const reading: Reading = { since: clock.now(), stats: load(hooks), underWay: true };
    reading.stats.then(
      () => {
        reading.underWay = false;
      },
      // Whoever asks next asks anew.
      () => void readings.delete(hooks),
    );
    readings.set(hooks, reading);
    return reading;
  }

  async function load(hooks: boolean): Promise<Stats> {
    const [row] = await database.run<StatsRow>("stats", [hooks]);
    return statsOf(row as StatsRow);
  }

  return {
    async stats(options) {
      requireKeys("Cannot read statistics", options, statsKeys);
      const { hooks = false } = options ?? {};
      requireBoolean("Cannot read statistics", "hooks", hooks);
      const last = readings.get(hooks);
      const isFresh = last && (last.underWay || clock.now() < last.since + sharedForMs);
      return await (isFresh ? last : read(hooks)).stats;
    },
  };
}

/** What is added up for a queue, a name or a worker. */
interface Sum {
  scheduled: number;
  pending: number;
  running: number;
  finished: number;
  failed: number;
  cancelled: number;
  waitingMs: number;
  executionMs: number;
  readonly waiting: Histogram;
  readonly execution: Histogram;
  oldestDueMs: number;
}

/** Sums by what they are of, each made when it is first asked for. */
class Sums {
  readonly #sums = new Map<string, Sum>();

  of(key: string): Sum {
    let sum = this.#sums.get(key);
    if (sum === undefined) {
      sum = {
        ...{ scheduled: 0, pending: 0, running: 0, finished: 0, failed: 0, cancelled: 0 },
        ...{ waitingMs: 0, executionMs: 0, oldestDueMs: Number.POSITIVE_INFINITY },
        ...{ waiting: new Map(), execution: new Map() },
      };
      this.#sums.set(key, sum);
    }
    return sum;
  }

  sorted(): [string, Sum][] {
    return [...this.#sums].toSorted(([a], [b]) => (a < b ? -1 : 1));
  }
}

function statsOf(row: StatsRow): Stats {
  const [queues, names, workers] = [new Sums(), new Sums(), new Sums()];
  for (const item of list<LiveItem>(row.live)) {
    const sums = [queues.of(item.queue), names.of(item.name)];
    if (item.worker !== null) sums.push(workers.of(item.worker));
    for (const sum of sums) {
      sum[item.status] += item.count;
      if (item.status === "pending") sum.oldestDueMs = Math.min(sum.oldestDueMs, item.oldest_due_ms);
    }
  }
  const sumsOf = (item: PastOf) =>
    item.worker === null ? [queues.of(item.queue), names.of(item.name)] : [workers.of(item.worker)];
  for (const item of list<PastItem>(row.past)) {
    for (const sum of sumsOf(item)) {
      sum[countOf(item.status)] += item.count;
      sum.waitingMs += item.waiting_ms;
      sum.executionMs += item.execution_ms;
    }
  }
  for (const what of ["waiting", "execution"] as const) {
    for (const item of list<HistogramItem>(row[what])) {
      for (const sum of sumsOf(item)) addHistogram(sum[what], item.histogram);
    }
  }
  return {
    at: new Date(row.at_ms),
    since: new Date(row.since_ms),
    until: row.until_ms === null ? undefined : new Date(row.until_ms),
    queues: queues.sorted().map(([queue, sum]) => ({ queue, ...figures(sum) })),
    names: names.sorted().map(([name, sum]) => ({ name, ...figures(sum) })),
    workers: workers.sorted().map(([worker, sum]) => {
      const { running, finished, failed, cancelled, waiting, execution } = figures(sum);
      return { worker, running, finished, failed, cancelled, waiting, execution };
    }),
  };
}

function list<Item>(json: string | null): Item[] {
  return json === null ? [] : (JSON.parse(json) as Item[]);
}

function countOf(status: string): "finished" | "failed" | "cancelled" {
  return status === "succeeded" ? "finished" : status === "cancelled" ? "cancelled" : "failed";
}

function figures(sum: Sum): Figures {
  const { scheduled, pending, running, finished, failed, cancelled, oldestDueMs } = sum;
  return {
    ...{ scheduled, pending, running, finished, failed, cancelled },
    waiting: durations(sum.waiting, sum.waitingMs),
    execution: durations(sum.execution, sum.executionMs),
    oldestDueAt: oldestDueMs === Number.POSITIVE_INFINITY ? undefined : new Date(oldestDueMs),
  };
}

function durations(histogram: Histogram, sumMs: number): Durations | undefined {
  let count = 0;
  for (const some of histogram.values()) count += some;
  if (count === 0) return undefined;
  const [p50Ms, p95Ms, p99Ms] = percentilesMs(histogram, [0.5, 0.95, 0.99]) as [number, number, number];
  return { count, meanMs: sumMs / count, p50Ms, p95Ms, p99Ms };
}
