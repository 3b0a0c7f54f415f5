/**
 * How far commands are, as streams. However many are watched in a process, and by however many, one read a second asks
 * for all of them (each 1,000 of them are a statement); while nobody watches there is no timer.
 */
import type { Clock, Timer } from "./clock.ts";
import { type Database, isPassing } from "./database.ts";
import type { CommandStatus } from "./get.ts";
import { maxBatchCommands } from "./limits.ts";
import type { Observer } from "./observation.ts";
import { parseTime } from "./outcome.ts";
import { StoppedError, UnknownCommandError } from "./wait-errors.ts";

export interface ProgressOptions {
  /** Ends the watching with the signal's reason. The command goes on. */
  readonly signal?: AbortSignal | undefined;
}

/** How far a command is. */
export interface CommandProgress {
  readonly status: CommandStatus;
  /** What its handler noted last; undefined where it noted nothing, or had ended when the watching began. */
  readonly progress: unknown;
  /** When it was read, by the database's clock; of a final status, when the command finished. */
  readonly at: Date;
}

export interface Watcher {
  watch(id: string, options?: ProgressOptions): AsyncIterableIterator<CommandProgress>;
  close(): void;
}

interface ProgressRow {
  readonly id: string;
  readonly status: CommandStatus;
  readonly progress: string | null;
  readonly finished_at: string | null;
  readonly at: string;
}

interface Watch {
  /** `undefined`: there is no such command. */
  tell(row: ProgressRow | undefined): void;
  fail(error: unknown): void;
}

const readIntervalMs = 1_000;

export function createWatcher(database: Database, clock: Clock, report: Observer): Watcher {
  const watched = new Map<string, Set<Watch>>();
  let timer: Timer | undefined;
  let reading = false;
  let closed = false;
  let readAt = Number.NEGATIVE_INFINITY;
  let troubles = 0;

  function readLater(): void {
    if (timer || reading || closed || watched.size === 0) return;
    timer = clock.after(Math.max(readAt + readIntervalMs - clock.now(), 0), () => {
      timer = undefined;
      void read();
    });
  }

  async function read(): Promise<void> {
    reading = true;
    readAt = clock.now();
    const ids = [...watched.keys()];
    for (let start = 0; start < ids.length; start += maxBatchCommands) {
      const batch = ids.slice(start, start + maxBatchCommands);
      try {
        const rows = await database.run<ProgressRow>("progress", [JSON.stringify(batch)]);
        troubles = 0;
        const byId = new Map(rows.map((row) => [row.id, row]));
        for (const id of batch) for (const watch of [...(watched.get(id) ?? [])]) watch.tell(byId.get(id));
      } catch (error) {
        if (closed) return;
        if (isPassing(error)) {
          troubles += 1;
          report({ type: "database_trouble", operation: "progress", error, attempt: troubles });
          break;
        }
        for (const id of batch) for (const watch of [...(watched.get(id) ?? [])]) watch.fail(error);
      }
    }
    reading = false;
    readLater();
  }

  function add(id: string, watch: Watch): void {
    const watches = watched.get(id);
    if (watches) watches.add(watch);
    else watched.set(id, new Set([watch]));
    readLater();
  }

  function remove(id: string, watch: Watch): void {
    const watches = watched.get(id);
    watches?.delete(watch);
    if (watches?.size === 0) watched.delete(id);
    if (watched.size > 0) return;
    timer?.cancel();
    timer = undefined;
  }

  return {
    watch: (id, { signal } = {}) => createStream({ id, signal, add, remove, isClosed: () => closed }),
    close() {
      closed = true;
      timer?.cancel();
      timer = undefined;
      for (const [id, watches] of [...watched]) {
        for (const watch of [...watches]) watch.fail(stoppedError(id));
      }
    },
  };
}

interface StreamOptions {
  readonly id: string;
  readonly signal: AbortSignal | undefined;
  add(id: string, watch: Watch): void;
  remove(id: string, watch: Watch): void;
  isClosed(): boolean;
}

type Result = IteratorResult<CommandProgress, undefined>;

/**
 * The states of one command. It watches from the first `next()` on. Whoever is slower than the command changes gets the
 * newest state and none in between, so nothing piles up.
 */
function createStream({ id, signal, add, remove, isClosed }: StreamOptions): AsyncIterableIterator<CommandProgress> {
  let begun = false;
  let ended = false;
  let failure: { readonly error: unknown } | undefined;
  let fresh: CommandProgress | undefined;
  let last: string | undefined;
  let progress: string | undefined;
  const asking: { resolve(result: Result): void; reject(error: unknown): void }[] = [];

  const watch: Watch = {
    tell(row) {
      if (row === undefined) return watch.fail(new UnknownCommandError(id, `Cannot watch command ${id}`));
      progress = row.progress ?? progress;
      const state = `${row.status} ${progress}`;
      if (row.finished_at !== null) end();
      if (state === last) return;
      last = state;
      fresh = {
        status: row.status,
        progress: progress === undefined ? undefined : JSON.parse(progress),
        at: parseTime(row.finished_at ?? row.at),
      };
      answer();
    },
    fail(error) {
      failure = { error };
      end();
      answer();
    },
  };
  const abort = () => watch.fail(signal?.reason);

  function begin(): void {
    begun = true;
    if (isClosed()) return watch.fail(stoppedError(id));
    if (signal?.aborted) return abort();
    signal?.addEventListener("abort", abort, { once: true });
    add(id, watch);
  }

  function end(): void {
    ended = true;
    signal?.removeEventListener("abort", abort);
    remove(id, watch);
  }

  /** Gives those who ask what there is: a state once, a failure once, and after the end nothing any more. */
  function answer(): void {
    for (let one = asking[0]; one !== undefined; one = asking[0]) {
      if (failure) {
        one.reject(failure.error);
        failure = undefined;
        fresh = undefined;
      } else if (fresh) {
        one.resolve({ done: false, value: fresh });
        fresh = undefined;
      } else if (ended) one.resolve({ done: true, value: undefined });
      else return;
      asking.shift();
    }
  }

  return {
    [Symbol.asyncIterator]() {
      return this;
    },
    next: () =>
      new Promise<Result>((resolve, reject) => {
        asking.push({ resolve, reject });
        if (!begun && !ended) begin();
        answer();
      }),
    async return(): Promise<Result> {
      end();
      failure = undefined;
      fresh = undefined;
      answer();
      return { done: true, value: undefined };
    },
  };
}

function stoppedError(id: string): StoppedError {
  return new StoppedError(`Cannot watch command ${id}: the orchestrator was stopped`);
}
