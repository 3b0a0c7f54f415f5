/**
 * One lease of a reader's generation: reads the log from its checkpoint on, hands batches to the handler, and notes how
 * far it has come. The lease is held by heartbeats and fenced like a command's; whatever ends it (an error, a stop, a
 * pause, another process), the next one begins at the checkpoint in the database and at nothing that is remembered here.
 *
 * A checkpoint is written in one of two ways. `checkpoint(db)`, the last statement of the handler's own transaction,
 * commits with what the handler wrote. Without it the checkpoint follows when the handler has returned, and a batch whose
 * process dies in between comes again.
 */
import { backoffMs } from "./backoff.ts";
import type { Clock } from "./clock.ts";
import { type Database, isPassing, repeatDelayMs } from "./database.ts";
import type { Queryable } from "./driver.ts";
import { errorRecord } from "./failure.ts";
import type { Hints } from "./hints.ts";
import type { Observer } from "./observation.ts";
import type { LogReader, RowPage } from "./read-log.ts";
import type { ResolvedReaderOptions } from "./reader-options.ts";
import { parseEvents, type RecordedEvent } from "./recorded-event.ts";
import { createWakeup, pause } from "./wakeup.ts";

/** What a batch is handed over with. */
export interface ReaderContext {
  /** Aborted when the lease is lost, the handler takes longer than `timeoutMs`, or the reader stops. */
  readonly signal: AbortSignal;
  /** Which building of the projection this is, from 1: `rebuild` begins the next one, which writes elsewhere. */
  readonly generation: number;
  /** Whether it is a rebuild that has not been put in use yet. */
  readonly building: boolean;
  /**
   * Records that this batch has been dealt with, as the last statement of a transaction of the handler's own, which must
   * be READ COMMITTED: what it wrote and the checkpoint commit together, or neither does. The transaction ends with the
   * lease at the latest. Given an event of the batch, it records that one and those before it.
   *
   * @throws ReaderLeaseLostError where another process reads by now: the transaction is to be rolled back.
   */
  checkpoint(db: Queryable, upTo?: RecordedEvent): Promise<void>;
}

/** Another process reads for this reader, or nobody may any more: what the handler has written is to be rolled back. */
export class ReaderLeaseLostError extends Error {
  readonly code = "ORCHESTRATUM_READER_LEASE_LOST";
  override readonly name = "ReaderLeaseLostError";
  readonly reader: string;
  readonly generation: number;

  constructor(reader: string, generation: number) {
    super(
      `Cannot go on with reader "${reader}" (generation ${generation}): its lease was lost, and somebody else goes on`,
    );
    this.reader = reader;
    this.generation = generation;
  }
}

/** A lease as it was taken. */
export interface TakenReader {
  readonly generation: number;
  readonly building: boolean;
  readonly position: number;
  readonly fence: number;
  readonly failures: number;
  /** Until when it may be trusted, by the process's clock, if nothing is heard. */
  readonly until: number;
}

export interface ReaderLeaseParts {
  readonly database: Database;
  readonly clock: Clock;
  readonly report: Observer;
  readonly hints: Hints;
  readonly log: LogReader;
  /** The process, as the lease names it. */
  readonly process: string;
  readonly options: ResolvedReaderOptions;
}

export interface ReaderLease {
  readonly generation: number;
  /** Look for events now. */
  wake(): void;
  /** Ask now whether the lease is still this one's: somebody has paused, reset, removed or switched a reader. */
  check(): void;
  /** No further batch. */
  stop(): void;
  /** Aborts the handler. */
  abort(reason: unknown): void;
  /** Resolves when it has ended, and says so in the database where that answers. Never rejects. */
  readonly ended: Promise<void>;
}

interface HoldRow {
  readonly result: "held" | "busy" | "rolled_back" | "lost";
  readonly paused: boolean | null;
}

/**
 * What hints at readers, in a queue's place; sql/functions/reader_hint.sql has the same. From long ago it says that
 * somebody has done something to a reader, else that there is an event.
 */
export const readersHint = "*readers*";

/** How long a handler that was aborted may go on before the reader goes on without it. */
const abortGraceMs = 5_000;
/** How long the end of a lease may take to be written; it ends by itself otherwise. */
const releaseMs = 5_000;
/** A switch that found a row locked, or the other generation ahead, is tried again after this time. */
const switchAgainMs = 50;

/** What a batch failed with where its handler returned, but its transaction did not commit. */
class CheckpointRolledBackError extends Error {
  override readonly name = "CheckpointRolledBackError";
  readonly code = "rolled_back";
}

export function createReaderLease(taken: TakenReader, parts: ReaderLeaseParts): ReaderLease {
  const { database, clock, report, hints, log, options } = parts;
  const { name, leaseMs } = options;
  const { generation, fence } = taken;
  const wakeup = createWakeup(clock);
  const controller = new AbortController();
  /** What a lease is named by in every statement. */
  const named = [name, generation, parts.process, fence] as const;

  const beatWakeup = createWakeup(clock);
  let building = taken.building;
  /** Failed batches in a row. */
  let { failures } = taken;
  /** The last position that has been dealt with here. */
  let position = taken.position;
  /** A lease is given up a little before it ends by this process's clock: nobody may handle events beside the next one. */
  const marginMs = Math.min(leaseMs / 6, 2_000);
  let trustedUntil = taken.until - marginMs;
  let stopping = false;
  let lost = false;
  let ended = false;
  let writing: Promise<HoldRow["result"]> | undefined;

  function lose(): void {
    if (lost || ended) return;
    lost = true;
    report({ type: "reader_lease_lost", reader: name, generation });
    controller.abort(new ReaderLeaseLostError(name, generation));
    wakeup.raise();
  }

  function stop(): void {
    stopping = true;
    wakeup.raise();
  }

  /** Extends the lease, and writes how far this has come. One at a time: two would find each other's row locked. */
  async function hold(to: number, recorded = 0): Promise<HoldRow["result"]> {
    while (writing) await writing.catch(() => {});
    const sentAt = clock.now();
    writing = (async () => {
      const params = [...named, leaseMs, String(to), String(recorded)];
      const [row] = await database.run<HoldRow>("holdReader", params, {
        deadlineMs: Math.max(trustedUntil - sentAt, 1),
      });
      if (row?.result === "held") trustedUntil = sentAt + leaseMs - marginMs;
      if (row?.paused) stop();
      return row?.result ?? "lost";
    })();
    try {
      return await writing;
    } finally {
      writing = undefined;
    }
  }

  async function beat(): Promise<void> {
    while (!ended && !lost) {
      // However often it could not be extended: who handles events is told before somebody else may take over.
      await beatWakeup.sleep(Math.min(leaseMs / 3, Math.max(trustedUntil - clock.now(), 1)));
      if (ended || lost) return;
      try {
        // Busy is no lost lease: the handler's own transaction has the row.
        if ((await hold(position)) === "lost") lose();
      } catch (error) {
        report({ type: "database_trouble", operation: "holdReader", error, attempt: 1 });
      }
      if (clock.now() >= trustedUntil) lose();
    }
  }

  /** Records that everything up to `to` has been dealt with. */
  async function settle(to: number, recorded: number): Promise<void> {
    for (let attempt = 1; !lost; attempt++) {
      let result: HoldRow["result"] | "unknown" = "unknown";
      try {
        result = await hold(to, recorded);
      } catch (error) {
        report({ type: "database_trouble", operation: "holdReader", error, attempt });
      }
      if (result === "held") {
        if (to > position) failures = 0;
        position = to;
        return;
      }
      if (result === "rolled_back") {
        throw new CheckpointRolledBackError(
          `Cannot go on with reader "${name}": the transaction of its checkpoint(db) was rolled back`,
        );
      }
      if (result === "lost" || clock.now() >= trustedUntil) return lose();
      await pause(clock, repeatDelayMs(clock, Math.min(attempt, 3), 250));
    }
  }

  /** Runs the handler, and waits for it no longer than it may take. Answers how far its own transactions recorded it. */
  async function handle(events: readonly RecordedEvent[], upTo: number): Promise<number> {
    const attempt = `Cannot record a checkpoint of reader "${name}"`;
    let recorded = 0;
    let open = true;
    // For this batch: a timeout is no end of the lease's.
    const batch = new AbortController();
    const abort = () => batch.abort(controller.signal.reason);
    controller.signal.addEventListener("abort", abort, { once: true });
    const context: ReaderContext = {
      signal: batch.signal,
      generation,
      building,
      async checkpoint(db, event) {
        if (typeof db?.query !== "function") {
          throw new TypeError(`${attempt}: db must be the open transaction, as postgresJs(tx) makes it`);
        }
        if (!open) throw new Error(`${attempt}: its handler has returned already`);
        const to = event === undefined ? upTo : (event.position ?? 0);
        if (!(to > position && to <= upTo)) throw new RangeError(`${attempt}: it is of no event of this batch`);
        if (lost) throw new ReaderLeaseLostError(name, generation);
        const deadlineMs = Math.max(trustedUntil - clock.now(), 1);
        const [row] = await database.run<{ accepted: boolean }>("checkpoint", [...named, String(to)], {
          db,
          deadlineMs,
        });
        if (!row?.accepted) {
          lose();
          throw new ReaderLeaseLostError(name, generation);
        }
        recorded = Math.max(recorded, to);
      },
    };
    let settled = false;
    const running = (async () => await options.handle(events, context))();
    const done = running.then(
      () => {},
      () => {},
    );
    const over = createWakeup(clock);
    void done.then(() => {
      settled = true;
      over.raise();
    });
    batch.signal.addEventListener("abort", () => over.raise(), { once: true });
    try {
      const timeoutAt = clock.now() + options.timeoutMs;
      while (!settled && !batch.signal.aborted && clock.now() < timeoutAt) await over.sleep(timeoutAt - clock.now());
      if (!settled) {
        if (!batch.signal.aborted) {
          batch.abort(
            new Error(`Cannot wait for the handler of reader "${name}": it took over ${options.timeoutMs} ms`),
          );
        }
        const graceEndsAt = clock.now() + abortGraceMs;
        while (!settled && clock.now() < graceEndsAt) await over.sleep(graceEndsAt - clock.now());
        if (!settled) {
          running.catch(() => {});
          throw batch.signal.reason;
        }
      }
      await running;
      return recorded;
    } finally {
      open = false;
      controller.signal.removeEventListener("abort", abort);
    }
  }

  /** A rebuild that has read to the end is put in use; answers in how many ms to look again. */
  async function putInUse(): Promise<number> {
    let result: string | undefined;
    try {
      const [row] = await database.run<{ result: string }>("switchReader", [...named]);
      result = row?.result;
    } catch (error) {
      if (!isPassing(error)) throw error;
      report({ type: "database_trouble", operation: "switchReader", error, attempt: 1 });
    }
    if (result === "switched") {
      building = false;
      report({ type: "reader_switched", reader: name, generation });
      hints.wake([readersHint]);
      return 0;
    }
    if (result === "lost") lose();
    return switchAgainMs;
  }

  /** Some of the log after `position`; undefined where the database did not answer, and some time has gone by. */
  async function readPage(attempt: number): Promise<RowPage | undefined> {
    try {
      return await log.read(position, options.batchSize, options.pattern);
    } catch (error) {
      // Its trouble is no failure of the batch's.
      if (!isPassing(error)) throw error;
      report({ type: "database_trouble", operation: "readLog", error, attempt });
      await wakeup.sleep(repeatDelayMs(clock, attempt, 5_000));
      return undefined;
    }
  }

  async function read(): Promise<void> {
    for (let troubles = 0; !stopping && !lost; ) {
      const page = await readPage(troubles + 1);
      troubles = page ? 0 : troubles + 1;
      if (stopping || lost) return;
      if (!page) continue;
      if (page.rows.length > 0) {
        if (clock.now() >= trustedUntil) return lose();
        const recorded = await handle(await parseEvents(page.rows, options.parsers), page.position);
        await settle(page.position, recorded);
      } else {
        // Written with the next heartbeat: events of others' topics cost a reader no write of its own.
        position = page.position;
      }
      if (page.more || stopping || lost) continue;
      if (building) {
        await settle(position, 0);
        if (!lost) await wakeup.sleep(await putInUse());
      } else if (page.rows.length === 0) {
        await wakeup.sleep(options.pollIntervalMs);
      }
    }
  }

  async function release(failure: { readonly error: unknown } | undefined): Promise<void> {
    const delayMs = failure ? backoffMs(options.backoff, failures + 1, failure.error, clock.random) : 0;
    const error = failure ? errorRecord(failure.error) : undefined;
    if (error) {
      const count = failures + 1;
      report({ type: "reader_failed", reader: name, generation, error, failures: count, retryInMs: delayMs });
    }
    const until = clock.now() + releaseMs;
    for (let attempt = 1; clock.now() < until; attempt++) {
      try {
        const params = [...named, delayMs, error?.message ?? null, String(position)];
        const rows = await database.run("releaseReader", params, { deadlineMs: Math.max(until - clock.now(), 1) });
        if (rows.length > 0) {
          // For those who wait to go on. After a failure they know when that is.
          if (!failure) hints.wake([readersHint]);
          return;
        }
        // Locked by what is left of the handler's transaction, or not this process's any more.
        if (attempt > 3) return;
      } catch (problem) {
        report({ type: "database_trouble", operation: "releaseReader", error: problem, attempt });
      }
      await pause(clock, repeatDelayMs(clock, attempt, 500));
    }
  }

  async function run(): Promise<void> {
    const beating = beat();
    let failure: { readonly error: unknown } | undefined;
    try {
      await read();
    } catch (error) {
      // What the handler threw because it was told to end is no failure of its own.
      if (!lost && !controller.signal.aborted) failure = { error };
    }
    ended = true;
    beatWakeup.raise();
    if (!lost) await release(failure);
    await beating;
  }

  return {
    generation,
    wake: () => wakeup.raise(),
    check: () => beatWakeup.raise(),
    stop,
    abort(reason) {
      controller.abort(reason);
      stop();
    },
    ended: run(),
  };
}
