/**
 * A reader of the log as its process sees it: it asks for the reader's lease, and runs what it gets. Of all processes
 * that started a reader of this name one has the lease; the others ask again when it may have ended. A rebuild is one
 * more generation with a lease of its own, so it may run in the same process or in another one.
 */
import type { Clock } from "./clock.ts";
import { type Database, repeatDelayMs } from "./database.ts";
import type { Hints } from "./hints.ts";
import type { Observer } from "./observation.ts";
import { type LogReader, placeAtOnce } from "./read-log.ts";
import { createReaderLease, type ReaderLease, readersHint } from "./reader-lease.ts";
import type { ResolvedReaderOptions } from "./reader-options.ts";
import { uuidv7 } from "./uuid.ts";
import { StoppedError } from "./wait-errors.ts";
import { createWakeup } from "./wakeup.ts";
import { requireStopOptions, type StopOptions } from "./worker.ts";

/** A reader that was started in this process. */
export interface Reader extends AsyncDisposable {
  readonly name: string;
  /** The process, as the list of readers names it as `holder`. */
  readonly id: string;
  /** From the start to the end of `stop()`, or until the reader was removed. */
  readonly isRunning: boolean;
  /** Resolves when the reader is known to the database; rejects with a StoppedError where it was stopped before. */
  readonly started: Promise<void>;
  /**
   * Begins no further batch, lets the handler finish within the grace time, then aborts it, and frees the reader for
   * other processes: after `graceMs` and 10 s at the latest. A second call is harmless.
   */
  stop(options?: StopOptions): Promise<void>;
}

export interface ReaderParts {
  readonly database: Database;
  readonly clock: Clock;
  readonly hints: Hints;
  readonly report: Observer;
  readonly log: LogReader;
  readonly instance: string | undefined;
  /** It has ended. */
  readonly stopped: () => void;
}

interface TakenRow {
  readonly generation: number;
  readonly building: boolean;
  readonly position: string;
  readonly taken: boolean;
  readonly fence: number | null;
  readonly failures: number;
  readonly free_in_ms: number;
}

/** While this process reads itself, it asks this seldom for what else there is to do: a rebuild is hinted at. */
const busyAskMs = 5_000;
/** How long the end of a stop may take after the handler was aborted. */
const endMs = 10_000;

export function createReader(options: ResolvedReaderOptions, parts: ReaderParts): Reader {
  const { database, clock, report, log } = parts;
  const { name } = options;
  const id = `${parts.instance ?? "reader"}-${uuidv7()}`;
  const wakeup = createWakeup(clock);
  const leases = new Map<number, ReaderLease>();
  let stopping: Promise<void> | undefined;
  let over = false;
  let known = false;
  let isKnown!: () => void;
  let failStart!: (error: Error) => void;
  const started = new Promise<void>((resolve, reject) => {
    isKnown = resolve;
    failStart = reject;
  });
  // Whoever does not wait for it need not hear of it.
  started.catch(() => {});

  const unsubscribe = parts.hints.receive({
    due(queue, fromMicros) {
      if (queue !== readersHint) return;
      for (const lease of leases.values()) lease.wake();
      // An event changes nothing about who reads; what somebody has done to a reader may.
      if (fromMicros !== 0) return;
      wakeup.raise();
      for (const lease of leases.values()) lease.check();
    },
    reconnected: wake,
  });

  function wake(): void {
    wakeup.raise();
    for (const lease of leases.values()) lease.wake();
  }

  async function register(): Promise<void> {
    if (options.from === undefined) while ((await log.place()).count === placeAtOnce);
    await database.run("registerReader", [name, options.from === undefined ? null : String(options.from)]);
    known = true;
    isKnown();
  }

  /** Leases what is free, and answers in how many ms to ask again; undefined where the reader was removed. */
  async function take(): Promise<number | undefined> {
    const sentAt = clock.now();
    const rows = await database.run<TakenRow>("takeReader", [
      id,
      name,
      options.leaseMs,
      JSON.stringify([...leases.keys()]),
    ]);
    if (rows.length === 0) return undefined;
    let againMs = leases.size > 0 ? Math.max(busyAskMs, options.pollIntervalMs) : options.pollIntervalMs;
    for (const row of rows) {
      if (row.taken) start(row, sentAt + options.leaseMs);
      // A little later than the lease ends, so that of many who wait not all ask at once.
      else if (!leases.has(row.generation) && row.free_in_ms > 0) {
        againMs = Math.min(againMs, row.free_in_ms + 10 + clock.random() * 50);
      }
    }
    return againMs;
  }

  function start(row: TakenRow, until: number): void {
    const { generation, building, failures } = row;
    const taken = { generation, building, failures, position: Number(row.position), fence: row.fence ?? 0, until };
    const lease = createReaderLease(taken, { database, clock, report, hints: parts.hints, log, process: id, options });
    leases.set(generation, lease);
    if (stopping) lease.stop();
    void lease.ended.then(() => {
      leases.delete(generation);
      wakeup.raise();
    });
  }

  async function loop(): Promise<void> {
    for (let attempt = 1; !stopping; attempt++) {
      try {
        await register();
        break;
      } catch (error) {
        report({ type: "database_trouble", operation: "registerReader", error, attempt });
        await wakeup.sleep(repeatDelayMs(clock, attempt, 5_000));
      }
    }
    for (let attempt = 0; !stopping; ) {
      try {
        const againMs = await take();
        attempt = 0;
        // Somebody removed it: to register it anew would read everything once more.
        if (againMs === undefined) break;
        await wakeup.sleep(againMs);
      } catch (error) {
        report({ type: "database_trouble", operation: "takeReader", error, attempt: ++attempt });
        await wakeup.sleep(repeatDelayMs(clock, attempt, 5_000));
      }
    }
    await Promise.all([...leases.values()].map((lease) => lease.ended));
  }

  const done = loop().finally(() => {
    over = true;
    unsubscribe();
    parts.stopped();
    // Nobody is to wait for what will not be any more.
    if (!known)
      failStart(new StoppedError(`Cannot start reader "${name}": it was stopped before the database answered`));
  });

  async function drain(graceMs: number): Promise<void> {
    const limit = createWakeup(clock);
    void done.then(() => limit.raise());
    wakeup.raise();
    for (const lease of leases.values()) lease.stop();
    const graceEndsAt = clock.now() + graceMs;
    while (!over && clock.now() < graceEndsAt) await limit.sleep(graceEndsAt - clock.now());
    for (const lease of leases.values())
      lease.abort(new StoppedError(`Cannot go on with reader "${name}": it was stopped`));
    const endsAt = clock.now() + endMs;
    while (!over && clock.now() < endsAt) await limit.sleep(endsAt - clock.now());
    unsubscribe();
    parts.stopped();
  }

  const reader: Reader = {
    name,
    id,
    get isRunning() {
      return !over;
    },
    started,
    async stop(stopOptions) {
      const graceMs = requireStopOptions("Cannot stop reader", stopOptions);
      stopping ??= drain(graceMs);
      return await stopping;
    },
    [Symbol.asyncDispose]: () => reader.stop(),
  };
  return reader;
}
