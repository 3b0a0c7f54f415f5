/** Starting readers, and what an operator may ask of them and do to them. */
import type { Clock } from "./clock.ts";
import type { Database } from "./database.ts";
import type { Hints } from "./hints.ts";
import { type Keys, requireKeys } from "./limits.ts";
import type { Observer } from "./observation.ts";
import { createLogReader, createReadingLog, type LogPosition, type ReadingLog, requirePosition } from "./read-log.ts";
import { createReader, type Reader } from "./reader.ts";
import { readersHint } from "./reader-lease.ts";
import { type ReaderOptions, requireReaderName, resolveReaderOptions } from "./reader-options.ts";
import type { EventParser } from "./recorded-event.ts";
import { createReadingStreams, type ReadingStreams } from "./streams.ts";
import { StoppedError } from "./wait-errors.ts";
import type { StopOptions } from "./worker.ts";

/** How it stands with one generation of a reader. */
export interface ReaderState {
  readonly name: string;
  readonly generation: number;
  /** Whether it is a rebuild that has not been put in use yet. */
  readonly building: boolean;
  /** Its checkpoint: the last event that it has dealt with. */
  readonly position: number;
  /** How many events of the log are after that, of whatever topic; what has no place yet is counted up to 10,000. */
  readonly lag: number;
  /** The process that reads (`Reader.id`); undefined where nobody does. */
  readonly holder: string | undefined;
  readonly pausedAt: Date | undefined;
  /** Failed batches in a row. */
  readonly failures: number;
  /** The message of what the last batch failed with; undefined where it went well. */
  readonly lastError: string | undefined;
  readonly lastFailedAt: Date | undefined;
  /** When it is tried again after a failure; undefined where nothing is waited for. */
  readonly retryAt: Date | undefined;
  readonly checkpointAt: Date | undefined;
  readonly createdAt: Date;
}

export interface RebuildOptions {
  /** The position after which to begin. @default 0, the beginning */
  readonly from?: LogPosition | undefined;
}

const rebuildKeys: Keys<RebuildOptions> = { from: true };

/** There is no reader of this name: no process has started it, or it was removed. */
export class UnknownReaderError extends Error {
  readonly code = "ORCHESTRATUM_UNKNOWN_READER";
  override readonly name = "UnknownReaderError";
  readonly reader: string;

  constructor(attempt: string, reader: string) {
    super(`${attempt} "${reader}": there is none of this name; a reader is known once startReader has run somewhere`);
    this.reader = reader;
  }
}

/** What an orchestrator does with events that were stored. */
export interface EventStore extends ReadingLog, ReadingStreams {
  /**
   * Starts a reader of the log in this process: in order, at least once, in batches, from a checkpoint that is kept in
   * the database. Of all processes that started a reader of this name one reads; when it stops another one goes on, and
   * when it dies, after `leaseMs`. What a batch fails with is observed and listed, and the batch is tried again after a
   * while: a reader never passes over an event.
   *
   * @throws TypeError and RangeError for options that are none; StoppedError.
   */
  startReader<const E extends EventParser = never>(options: ReaderOptions<E>): Reader;
  /** Those that were started here and have not ended. */
  readonly startedReaders: readonly Reader[];
  /** Every reader that the database knows, by name and generation. */
  readers(): Promise<readonly ReaderState[]>;
  /**
   * Begins to build a projection anew beside the one in use: the next generation, which the handler is told, so that it
   * writes elsewhere. When it has come as far as the one in use, it takes its place, in one statement. Answers its
   * generation; of a rebuild that is under way already, that one's.
   *
   * @throws UnknownReaderError, TypeError and RangeError.
   */
  rebuild(name: string, options?: RebuildOptions): Promise<{ readonly generation: number; readonly begun: boolean }>;
  /** Gives up a rebuild. Answers whether there was one. */
  cancelRebuild(name: string): Promise<boolean>;
  /** Lets a reader rest after the batch that it is at. Answers whether it was not paused before. @throws UnknownReaderError */
  pauseReader(name: string): Promise<boolean>;
  /** Answers whether it was paused. @throws UnknownReaderError */
  resumeReader(name: string): Promise<boolean>;
  /**
   * Sets the checkpoint of the generation in use, forwards (past an event that nobody can deal with) or back: what comes
   * after `position` comes next, also what has been dealt with before. A batch under way is not recorded any more.
   *
   * @throws UnknownReaderError, TypeError and RangeError.
   */
  resetReader(name: string, position: LogPosition): Promise<void>;
  /** Forgets a reader with its checkpoint; where it runs, it ends. Answers whether there was one. */
  removeReader(name: string): Promise<boolean>;
}

/** What the orchestrator itself does with it. */
export interface OwnEventStore {
  readonly store: EventStore;
  stop(options: StopOptions | undefined): Promise<void>;
}

export interface EventStoreParts {
  readonly database: Database;
  readonly clock: Clock;
  readonly hints: Hints;
  readonly report: Observer;
  readonly instance: string | undefined;
}

interface ReaderRow {
  readonly name: string;
  readonly generation: number;
  readonly building: boolean;
  readonly position: string;
  readonly lag: number;
  readonly holder: string | null;
  readonly paused_at_ms: number | null;
  readonly failures: number;
  readonly last_error: string | null;
  readonly last_failed_at_ms: number | null;
  readonly retry_at_ms: number | null;
  readonly checkpoint_at_ms: number | null;
  readonly created_at_ms: number;
}

export function createEventStore(parts: EventStoreParts): OwnEventStore {
  const { database, hints } = parts;
  const log = createLogReader(database, parts.clock);
  const started = new Set<Reader>();
  let isStopped = false;

  async function change(attempt: string, name: string, paused: boolean): Promise<boolean> {
    requireReaderName(attempt, name);
    const [row] = await database.run<{ changed: boolean; known: boolean }>("pauseReader", [name, paused]);
    if (!row?.known) throw new UnknownReaderError(attempt, name);
    hints.wake([readersHint]);
    return row.changed;
  }

  const store: EventStore = {
    ...createReadingLog(log),
    ...createReadingStreams(database),
    startReader(options) {
      if (isStopped) throw new StoppedError("Cannot start reader: the orchestrator was stopped");
      const resolved = resolveReaderOptions(options as unknown as ReaderOptions<EventParser>);
      const reader = createReader(resolved, { ...parts, log, stopped: () => void started.delete(reader) });
      started.add(reader);
      return reader;
    },
    get startedReaders() {
      return [...started];
    },
    async readers() {
      return (await database.run<ReaderRow>("listReaders", [])).map(stateOf);
    },
    async rebuild(name, options) {
      const attempt = "Cannot rebuild reader";
      requireReaderName(attempt, name);
      requireKeys(attempt, options, rebuildKeys);
      const { from = 0 } = options ?? {};
      const position = requirePosition(attempt, "from", from);
      const begin = () =>
        database.run<{ generation: number; begun: boolean }>("rebuildReader", [name, String(position)]);
      // None, too, where another call has begun one while this one waited for it: the second look finds that.
      const row = (await begin())[0] ?? (await begin())[0];
      if (!row) throw new UnknownReaderError(attempt, name);
      hints.wake([readersHint]);
      return { generation: row.generation, begun: row.begun };
    },
    async cancelRebuild(name) {
      requireReaderName("Cannot cancel rebuild", name);
      const [row] = await database.run<{ changed: boolean }>("cancelRebuild", [name]);
      hints.wake([readersHint]);
      return row?.changed ?? false;
    },
    pauseReader: (name) => change("Cannot pause reader", name, true),
    resumeReader: (name) => change("Cannot resume reader", name, false),
    async resetReader(name, position) {
      const attempt = "Cannot reset reader";
      requireReaderName(attempt, name);
      const to = requirePosition(attempt, "position", position);
      const [row] = await database.run<{ known: boolean }>("resetReader", [name, String(to)]);
      if (!row?.known) throw new UnknownReaderError(attempt, name);
      hints.wake([readersHint]);
    },
    async removeReader(name) {
      requireReaderName("Cannot remove reader", name);
      const [row] = await database.run<{ changed: boolean }>("removeReader", [name]);
      hints.wake([readersHint]);
      return row?.changed ?? false;
    },
  };

  return {
    store,
    async stop(options) {
      isStopped = true;
      await Promise.all([...started].map((reader) => reader.stop(options)));
    },
  };
}

function stateOf(row: ReaderRow): ReaderState {
  const time = (ms: number | null): Date | undefined => (ms === null ? undefined : new Date(ms));
  const { name, generation, building, lag, failures } = row;
  return {
    ...{ name, generation, building, lag, failures },
    position: Number(row.position),
    holder: row.holder ?? undefined,
    pausedAt: time(row.paused_at_ms),
    lastError: row.last_error ?? undefined,
    lastFailedAt: time(row.last_failed_at_ms),
    retryAt: time(row.retry_at_ms),
    checkpointAt: time(row.checkpoint_at_ms),
    createdAt: new Date(row.created_at_ms),
  };
}
