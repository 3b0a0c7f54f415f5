/**
 * PGlite (the npm package `@electric-sql/pglite`): PostgreSQL inside this process, in memory or in a directory.
 *
 * It is one session, and two things follow from that, which PGlite itself does not notice:
 *
 * - Two instances on one directory spoil it. A directory is locked by a file beside it that names the process.
 * - While a transaction is open, every other statement waits. One that the transaction itself waits for would wait for
 *   ever, so all of them queue here, in front of PGlite, where they can still be refused: at once, when the statement
 *   comes from the transaction's own callback; after five seconds in which neither has moved, when it comes from
 *   elsewhere (the core writes in batches, so the one who sends is not always the one who waits).
 */

import { AsyncLocalStorage } from "node:async_hooks";
import { setImmediate } from "node:timers/promises";
import { PGlite, type PGliteOptions } from "@electric-sql/pglite";
import type { Driver, Listener, Param, Queryable } from "../src/driver.ts";

/** The part of an open transaction of PGlite that the adapter uses. */
export interface PgliteTransaction {
  query(text: string, params?: unknown[]): Promise<{ rows: unknown[] }>;
  rollback(): Promise<void>;
}

/** A database that the adapter opened. Closing it is up to who called. */
export interface PgliteDatabase extends Required<Driver>, AsyncDisposable {
  /** The instance, for statements and transactions of one's own: `database.pglite.transaction(…)`. */
  readonly pglite: PGlite;
  /** Waits for open statements, closes the database and frees its directory. A second call is harmless. */
  close(): Promise<void>;
}

/** A statement that would have waited for the very transaction that waits for it. */
export class WouldDeadlockError extends Error {
  readonly code = "ORCHESTRATUM_WOULD_DEADLOCK";
  override readonly name = "WouldDeadlockError";

  constructor(why: string) {
    super(
      `Cannot run a statement beside an open PGlite transaction: ${why}; pass the transaction on, as in { db: pglite(tx) }`,
    );
  }
}

/** How long a statement waits beside a transaction that runs none: longer than what a transaction does in between. */
const idleTransactionMs = 5_000;

/**
 * @param directory where the data is kept; in memory by default.
 * @throws {Error} code `ORCHESTRATUM_DIRECTORY_IN_USE`: the directory is open in another process, or in this one.
 *
 * @example
 * ```ts
 * const database = await pglite("./data"); // opens it: close it
 * const database = pglite(instance); // the caller's own
 * await instance.transaction((tx) => orchestrator.push(sendEmail({ to }), { db: pglite(tx) }));
 * ```
 */
export function pglite(directory?: string, options?: PGliteOptions): Promise<PgliteDatabase>;
export function pglite(instance: PGlite): Required<Driver>;
export function pglite(transaction: PgliteTransaction): Queryable;
export function pglite(
  target?: string | PGlite | PgliteTransaction,
  options?: PGliteOptions,
): Promise<PgliteDatabase> | Driver | Queryable {
  if (target === undefined || typeof target === "string") return openDatabase(target, options);
  if (typeof target?.query !== "function") {
    throw new TypeError("Cannot use this as a PGlite database: it must be a directory, an instance or a transaction");
  }
  return "transaction" in target ? instanceDriver(target) : transactionQueryable(target);
}

async function openDatabase(directory = "memory://", options: PGliteOptions = {}): Promise<PgliteDatabase> {
  const onDisk = /^(?!\w+:\/\/)|^file:\/\//.test(directory);
  const lock = onDisk ? (await import("./directory-lock.ts")).lockDirectory(directory) : undefined;
  let instance: PGlite;
  try {
    instance = await PGlite.create(directory, options);
    lock?.filled();
  } catch (error) {
    lock?.free();
    throw error;
  }
  let closing: Promise<void> | undefined;
  const close = (): Promise<void> => {
    closing ??= instance.close().finally(() => lock?.free());
    return closing;
  };
  return { ...instanceDriver(instance), pglite: instance, close, [Symbol.asyncDispose]: close };
}

function instanceDriver(instance: PGlite): Required<Driver> {
  const session = sessionOf(instance);
  return {
    name: "pglite",
    query: <Row>(text: string, params: readonly Param[], options?: { signal?: AbortSignal }) =>
      session.run(async () => {
        // PGlite computes in this thread, and answers within the turn of the event loop that asked. Nothing else ends in
        // that turn, so without this each outcome would be written alone, and each claim would bring one command.
        await setImmediate();
        return (await instance.query<Row>(text, params as Param[])).rows;
      }, options?.signal),
    script: (text) =>
      session.run(async () => {
        await session.transaction((tx) => tx.exec(text));
      }),
    listen: async (channel, onNotify, onListen, options): Promise<Listener> => {
      // Quoted, or PGlite folds its case. A quote within the name it does not understand, but no schema's name has one.
      const name = `"${channel}"`;
      let closed = false;
      const heard = (payload: string): void => {
        if (!closed) onNotify(payload);
      };
      await session.run(() => instance.listen(name, heard), options?.signal);
      onListen();
      return {
        close: async () => {
          if (closed) return;
          closed = true;
          if (!instance.closed) await session.run(() => instance.unlisten(name, heard));
        },
      };
    },
  };
}

const transactionQueryable = (transaction: PgliteTransaction): Queryable => ({
  query: async <Row>(text: string, params: readonly Param[]): Promise<Row[]> =>
    (await transaction.query(text, params as Param[])).rows as Row[],
});

/** The caller's transaction that is open in an instance: one at most. */
interface OpenTransaction {
  open: boolean;
  /** When its newest statement ended; infinite while one is running. */
  idleSince: number;
}

interface Waiting {
  start: () => void;
  refuse: (error: unknown) => void;
}

interface Session {
  /** Runs `work` when it is its turn: nothing else runs in the session meanwhile. */
  run<T>(work: () => Promise<T>, signal?: AbortSignal): Promise<T>;
  /** PGlite's own, for work whose turn it is. */
  transaction: PGlite["transaction"];
}

const sessions = new WeakMap<PGlite, Session>();
const within = new AsyncLocalStorage<OpenTransaction>();

/** One session for an instance, however many adapters were made for it: the order of its statements is decided here. */
function sessionOf(instance: PGlite): Session {
  const known = sessions.get(instance);
  if (known !== undefined) return known;

  const queue = new Set<Waiting>();
  let busy = false;
  let current: OpenTransaction | undefined;

  const next = (): void => {
    busy = false;
    const [first] = queue;
    if (first === undefined) return;
    queue.delete(first);
    busy = true;
    first.start();
  };

  const takeTurn = (signal?: AbortSignal): Promise<void> => {
    const mine = within.getStore();
    if (mine?.open) return Promise.reject(new WouldDeadlockError("it was sent from within that transaction"));
    signal?.throwIfAborted();
    if (!busy) {
      busy = true;
      return Promise.resolve();
    }
    return new Promise((resolve, reject) => {
      const leave = (): void => {
        clearInterval(timer);
        signal?.removeEventListener("abort", abort);
        queue.delete(waiting);
      };
      const waiting: Waiting = {
        start: () => {
          leave();
          resolve();
        },
        refuse: (error) => {
          leave();
          reject(error);
        },
      };
      const abort = (): void => waiting.refuse(signal?.reason);
      const since = performance.now();
      const timer = setInterval(() => {
        const idleSince = current === undefined ? Number.POSITIVE_INFINITY : Math.max(since, current.idleSince);
        if (performance.now() - idleSince >= idleTransactionMs) {
          waiting.refuse(new WouldDeadlockError(`it has run nothing for ${idleTransactionMs} ms`));
        }
      }, idleTransactionMs / 10);
      signal?.addEventListener("abort", abort, { once: true });
      queue.add(waiting);
    });
  };

  const transaction: PGlite["transaction"] = instance.transaction.bind(instance);
  const session: Session = {
    transaction,
    async run(work, signal) {
      await takeTurn(signal);
      try {
        return await work();
      } finally {
        next();
      }
    },
  };

  instance.transaction = async (callback) => {
    await takeTurn();
    const mine: OpenTransaction = { open: true, idleSince: performance.now() };
    current = mine;
    try {
      return await transaction((tx) => within.run(mine, () => callback(watched(tx, mine))));
    } finally {
      mine.open = false;
      current = undefined;
      next();
    }
  };

  sessions.set(instance, session);
  return session;
}

/** The same transaction, whose statements are noted. */
function watched<T extends object>(tx: T, note: OpenTransaction): T {
  const noting = <A extends unknown[], R>(run: (...args: A) => Promise<R>) => {
    return async (...args: A): Promise<R> => {
      note.idleSince = Number.POSITIVE_INFINITY;
      try {
        return await run(...args);
      } finally {
        note.idleSince = performance.now();
      }
    };
  };
  return new Proxy(tx, {
    get(target, key) {
      const value: unknown = Reflect.get(target, key);
      return typeof value === "function" ? noting(value.bind(target) as () => Promise<unknown>) : value;
    },
  });
}
