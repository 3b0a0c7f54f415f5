/**
 * postgres.js (the npm package `postgres`): a pool, a connection or a transaction of the caller's, or the URL of a
 * database to open a pool for.
 *
 * LISTEN has a connection of its own, opened from the pool's options and opened anew whenever it ends, so that closing
 * a listener really closes it: the one that `sql.listen` shares among all channels could not be replaced once it is
 * half open.
 *
 * A pool that leaves a statement unanswered is left, for another one from the same options. postgres.js 3.4 never writes
 * again to a connection that ended while a write was buffered (porsager/postgres#1208), so a pool under load loses some
 * of its connections with each restart of the server, for good, and in the end answers nothing (seen after 60 killed
 * backends, with four connections).
 */

import postgres from "postgres";
import type { Driver, Listener, Param, Queryable } from "../src/driver.ts";
import { shown } from "../src/limits.ts";
import { keepListening, type ListeningConnection } from "./keep-listening.ts";

/** The part of a postgres.js client that the adapter uses; the same in a pool, a connection and a transaction. */
export interface PostgresJsClient {
  unsafe(text: string, params?: never[], options?: { prepare?: boolean; simple?: boolean }): PostgresJsQuery;
}

/** A statement of postgres.js: it is sent when it is awaited. */
export interface PostgresJsQuery extends PromiseLike<Iterable<object>> {
  cancel(): unknown;
  // Not among the types of postgres.js:
  /** Whether the server works on it. */
  readonly active?: boolean;
  /** What `cancel` calls; null once it has. */
  canceller?: ((query: PostgresJsQuery) => Promise<unknown>) | null;
}

/** A pool of postgres.js: what `postgres(url)` gives. */
export interface PostgresJsPool extends PostgresJsClient {
  readonly options: object;
  begin(...args: never[]): Promise<unknown>;
  end(options?: { timeout?: number }): Promise<void>;
}

export interface PostgresJsOptions {
  /**
   * Where to listen instead: the URL of the same database, or a pool on it, whose options are used. Behind a pooler in
   * transaction mode notifications only arrive on a direct connection. `false` turns listening off; workers poll.
   *
   * @default the pool's own options
   */
  readonly listen?: string | PostgresJsPool | false;
}

/** A database that the adapter opened a pool for. Closing it is up to who called. */
export interface PostgresJsDatabase extends Required<Driver>, AsyncDisposable {
  /** The pool, for statements and transactions of one's own. */
  readonly sql: postgres.Sql;
  /** Ends the pool: open statements have `timeoutMs` (default 5000) to finish. A second call is harmless. */
  close(options?: { timeoutMs?: number }): Promise<void>;
}

/** Seconds of silence after which the kernel asks whether the other side of a LISTEN connection is still there. */
const keepAliveSeconds = 10;

/**
 * Make a pool with `fetch_types: false`: nothing here needs those types, and a connection that is lost while postgres.js
 * asks for them rejects a promise that nobody can catch, which ends the process.
 *
 * @example
 * ```ts
 * const database = postgresJs(process.env.DATABASE_URL); // opens a pool: close it
 * const database = postgresJs(sql); // the caller's pool
 * await sql.begin((tx) => orchestrator.push(sendEmail({ to }), { db: postgresJs(tx) }));
 * ```
 */
export function postgresJs(
  url: string,
  options: PoolOptions & { readonly listen: false },
): Omit<PostgresJsDatabase, "listen">;
export function postgresJs(url: string, options?: PoolOptions & PostgresJsOptions): PostgresJsDatabase;
export function postgresJs(connection: PostgresJsClient & { release(): unknown }): Queryable;
export function postgresJs(pool: PostgresJsPool, options: { readonly listen: false }): Omit<Required<Driver>, "listen">;
export function postgresJs(pool: PostgresJsPool, options?: PostgresJsOptions): Required<Driver>;
export function postgresJs(transaction: PostgresJsClient): Queryable;
export function postgresJs(
  target: string | PostgresJsPool | PostgresJsClient,
  options: PoolOptions & PostgresJsOptions = {},
): Driver | Queryable {
  if (typeof target === "string") return openDatabase(target, options);
  if (typeof target?.unsafe !== "function") {
    throw new TypeError(
      `Cannot use this as a postgres.js database: it must be a URL, a pool, a connection or a transaction, got ${shown(target)}`,
    );
  }
  return isPool(target) ? poolDriver(target, options).driver : clientQueryable(target);
}

type PoolOptions = postgres.Options<Record<never, never>>;

const isPool = (client: PostgresJsClient): client is PostgresJsPool => "options" in client && "begin" in client;

function openDatabase(
  url: string,
  { listen, ...options }: PoolOptions & PostgresJsOptions,
): Omit<PostgresJsDatabase, "listen"> {
  // No array is ever bound, so their types need not be asked for; and nobody asked for notices on the console.
  const sql = postgres(url, { fetch_types: false, onnotice: () => {}, ...options });
  const { reserve } = sql;
  sql.reserve = async () => {
    // With `fetch_types: false` postgres.js 3.4 never gives out a connection that it has to open for it.
    await sql.unsafe("select 1");
    return await reserve();
  };
  const { driver, leave } = poolDriver(sql, listen === undefined ? {} : { listen });
  const close = async ({ timeoutMs = 5_000 } = {}): Promise<void> => {
    const timeout = timeoutMs / 1000;
    await Promise.all([leave(timeout), sql.end({ timeout })]);
  };
  return { ...driver, sql, close, [Symbol.asyncDispose]: () => close() };
}

/** `leave` ends what was opened here in the place of the pool; the pool itself is its owner's. */
function poolDriver(
  pool: PostgresJsPool,
  { listen = pool }: PostgresJsOptions,
): { driver: Driver; leave: (timeout: number) => Promise<void> } {
  const { options } = pool;
  const rename = columnNames(options);
  let current = pool;
  let queryable = clientQueryable(pool, rename);

  const leave = async (timeout: number): Promise<void> => {
    if (current !== pool) await current.end({ timeout });
  };
  const replace = (): void => {
    void leave(standInTimeout);
    current = standIn(options);
    queryable = clientQueryable(current, rename);
  };

  const driver: Driver = {
    name: "postgres-js",
    async query<Row>(text: string, params: readonly Param[], given?: { signal?: AbortSignal }): Promise<Row[]> {
      const { signal } = given ?? {};
      const used = current;
      const statement = queryable.query<Row>(text, params, given).catch((error: unknown) => {
        // One that was left has been ended here, and the next attempt goes to its stand-in. Where the caller has called
        // `end()`, there is no way back: a mistake, as a TypeError is, and no use to try again.
        if (used !== current || !isEnded(error)) throw error;
        throw new TypeError("Cannot run a statement: its pool was ended", { cause: error });
      });
      if (signal === undefined) return await statement;
      let timer: ReturnType<typeof setTimeout> | undefined;
      let unanswered = (): void => {};
      const abandoned = new Promise<never>((_, reject) => {
        unanswered = () => {
          if (used === current) replace();
          timer = setTimeout(() => reject(signal.reason), cancelledWithinMs);
        };
      });
      signal.addEventListener("abort", unanswered, { once: true });
      try {
        return await Promise.race([statement, abandoned]);
      } finally {
        signal.removeEventListener("abort", unanswered);
        clearTimeout(timer);
      }
    },
    async script(text) {
      // Several statements in one message are one transaction, and one round trip.
      await current.unsafe(text, [], { simple: true, prepare: false });
    },
  };
  if (listen !== false) {
    driver.listen = (channel, onNotify, onListen, given) =>
      openListener(listen, channel, onNotify, onListen, given?.signal);
  }
  return { driver, leave };
}

/** How long a cancelled statement may take to say so; one on a lost connection never does. */
const cancelledWithinMs = 1_000;

/** Seconds that a pool which stands in for another keeps idle connections, and has to finish when it is left itself. */
const standInTimeout = 5;

/** Nobody closes it where the pool is the caller's, so it must not keep a process that has nothing more to do. */
function standIn(options: object): PostgresJsPool {
  return postgres({
    ...options,
    idle_timeout: standInTimeout,
    shared: { retries: 0, typeArrayMap: {} },
  } as unknown as PoolOptions);
}

function clientQueryable(client: PostgresJsClient, rename?: (rows: object[], text: string) => object[]): Queryable {
  return {
    async query<Row>(text: string, params: readonly Param[], options?: { signal?: AbortSignal }): Promise<Row[]> {
      const { signal } = options ?? {};
      signal?.throwIfAborted();
      // `prepare` is this statement's wish; a client that was made with `prepare: false` still prepares nothing.
      const query = client.unsafe(text, params as unknown as never[], { prepare: true, simple: false });
      // Only what the server works on. What postgres.js has queued for a connection it "cancels" by leaving that
      // connection out of its pool for ever, and what it has pipelined by giving its answer to the next statement.
      // The message may fail to arrive: the statement then goes on, as it may anyway.
      const cancel = (): void => {
        if (query.active === true) cancelOnServer(query);
      };
      signal?.addEventListener("abort", cancel, { once: true });
      try {
        const rows = [...(await query)];
        return (rename === undefined ? rows : rename(rows, text)) as Row[];
      } catch (error) {
        throw isNullSocket(error) ? new ConnectionLostError(error) : error;
      } finally {
        signal?.removeEventListener("abort", cancel);
      }
    },
  };
}

/**
 * As `query.cancel()` of postgres.js does it, but that it drops its promise: where the server resets or refuses the
 * connection for the message, nobody could catch that, and an unhandled rejection ends the process.
 */
function cancelOnServer(query: PostgresJsQuery): void {
  const { canceller } = query;
  query.canceller = null;
  // A client that is wrapped may have no such thing, and its own way.
  if (canceller) canceller(query).catch(() => {});
  else void Promise.resolve(query.cancel()).catch(() => {});
}

/** The network's fault, although postgres.js reports its own: it writes to a socket that it has set to null. */
class ConnectionLostError extends Error {
  readonly code = "CONNECTION_CLOSED";
  override readonly name = "ConnectionLostError";

  constructor(cause: unknown) {
    super("Cannot run a statement: its connection is gone", { cause });
  }
}

/** Of a pool postgres.js says this for nothing else than `end()`. */
const isEnded = (error: unknown): boolean => (error as { code?: unknown } | null)?.code === "CONNECTION_ENDED";

const isNullSocket = (error: unknown): boolean => error instanceof TypeError && /\bnull\b/.test(error.message);

/**
 * Undoes `transform.column` of the caller's pool (`postgres.camel`, say), which changes the names of all columns: each
 * statement names its columns, so what the transformation makes of its words leads back to them.
 */
function columnNames(options: object): ((rows: object[], text: string) => object[]) | undefined {
  const { from } =
    (options as { transform?: { column?: { from?: (name: string) => string } } }).transform?.column ?? {};
  if (from === undefined) return undefined;
  const namesByText = new Map<string, Map<string, string>>();
  return (rows, text) => {
    let names = namesByText.get(text);
    if (names === undefined) {
      names = new Map(text.match(/[a-z_][a-z0-9_]*/g)?.map((word) => [from(word), word]));
      namesByText.set(text, names);
    }
    return rows.map((row) =>
      Object.fromEntries(Object.entries(row).map(([name, value]) => [names.get(name) ?? name, value])),
    );
  };
}

function openListener(
  target: string | PostgresJsPool,
  channel: string,
  onNotify: (payload: string) => void,
  onListen: () => void,
  signal: AbortSignal | undefined,
): Promise<Listener> {
  const open = (notify: (payload: string) => void): ListeningConnection => {
    const { promise: lost, resolve: onclose } = withResolvers();
    const options = {
      ...(typeof target === "string" ? { onnotice: () => {} } : target.options),
      max: 1,
      idle_timeout: null,
      max_lifetime: null,
      fetch_types: false,
      keep_alive: keepAliveSeconds,
      shared: { retries: 0, typeArrayMap: {} },
      onclose,
      onnotify: (from: string, payload: string) => {
        if (from === channel) notify(payload);
      },
    };
    const given = options as unknown as PoolOptions;
    const connection = typeof target === "string" ? postgres(target, given) : postgres(given);
    const listening = connection.unsafe(`listen "${channel.replaceAll('"', '""')}"`);
    return { listening, lost, end: () => connection.end({ timeout: 0 }) };
  };
  return keepListening(open, onNotify, onListen, signal);
}

function withResolvers(): { promise: Promise<void>; resolve: () => void } {
  let resolve = (): void => {};
  const promise = new Promise<void>((settle) => {
    resolve = settle;
  });
  return { promise, resolve };
}
