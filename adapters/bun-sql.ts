/**
 * Bun's own SQL client (`new SQL(url)`, `Bun.sql`), from Bun 1.2; LISTEN from 1.4.
 *
 * LISTEN has a client of its own, made from the options of the caller's, so that closing a listener really closes its
 * connection; Bun opens it anew whenever it ends. A pool that leaves a statement unanswered is left for another one made
 * from the same options: single connections cannot be taken out of it.
 */
import type { Driver, Listener, Param, Queryable } from "../src/driver.ts";
import { connectWithinMs, unanswered } from "./keep-listening.ts";

/** The part of a client of Bun that the adapter uses; the same in a pool, a reserved connection and a transaction. */
export interface BunSqlClient {
  unsafe(text: string, params?: any[]): BunSqlQuery;
}

/** A statement of Bun: it is sent when it is awaited. */
export interface BunSqlQuery extends PromiseLike<Iterable<object>> {
  simple(): BunSqlQuery;
  cancel(): unknown;
  /** Whether the server works on it. */
  readonly active: boolean;
}

/** A pool: what `new SQL(url)` gives. */
export interface BunSqlPool extends BunSqlClient {
  readonly options: object;
  reserve(): PromiseLike<unknown>;
  close(options?: { timeout?: number }): Promise<void>;
}

/** A pool that can listen; not among the types of every version. */
interface Listening {
  listen?(channel: string, onNotify: (payload: string) => void, onListen: () => void): Promise<unknown>;
}

export interface BunSqlOptions {
  /**
   * Where to listen instead: a pool on the same database, whose options are used. Behind a pooler in transaction mode
   * notifications only arrive on a direct connection. `false` turns listening off; workers poll.
   *
   * @default the pool's own options
   */
  readonly listen?: BunSqlPool | false;
}

/** How long a cancelled statement may take to say so; one on a lost connection never does. */
const cancelledWithinMs = 1_000;
/** Seconds that a pool which stands in for another keeps idle connections: nobody closes it where the pool is the caller's. */
const standInIdleSeconds = 5;

/**
 * @example
 * ```ts
 * const sql = new SQL(process.env.DATABASE_URL);
 * const database = bunSql(sql); // the caller's pool: close it
 * await sql.begin((tx) => orchestrator.push(sendEmail({ to }), { db: bunSql(tx) }));
 * ```
 */
export function bunSql(connection: BunSqlClient & { release(): unknown }): Queryable;
export function bunSql(transaction: BunSqlClient & { savepoint: unknown }): Queryable;
export function bunSql(pool: BunSqlPool, options?: BunSqlOptions): Driver;
export function bunSql(target: BunSqlPool | BunSqlClient, options: BunSqlOptions = {}): Driver | Queryable {
  if (typeof target?.unsafe !== "function") {
    throw new TypeError("Cannot use this as a database of Bun: it must be a pool, a connection or a transaction");
  }
  return "release" in target || "savepoint" in target
    ? { query: (text, params, given) => run(target, text, params, given?.signal) }
    : poolDriver(target as BunSqlPool, options);
}

function poolDriver(pool: BunSqlPool, { listen = pool }: BunSqlOptions): Driver {
  let current = pool;
  const driver: Driver = {
    name: "bun-sql",
    query: (text, params, given) => {
      const used = current;
      return run(used, text, params, given?.signal, () => {
        if (used !== current) return;
        current = newPool({ ...pool.options, idleTimeout: standInIdleSeconds });
        if (used !== pool) void used.close({ timeout: standInIdleSeconds }).catch(() => {});
      });
    },
    // Several statements in one message are one transaction, and one round trip.
    script: async (text) => void (await current.unsafe(text).simple()),
  };
  if (listen !== false && typeof (listen as Listening).listen === "function") {
    driver.listen = (channel, onNotify, onListen, given) =>
      openListener(listen, channel, onNotify, onListen, given?.signal);
  }
  return driver;
}

/** `unanswered` is called where the statement has not even ended a while after `signal` aborted. */
async function run<Row>(
  client: BunSqlClient,
  text: string,
  params: readonly Param[],
  signal: AbortSignal | undefined,
  unanswered: () => void = () => {},
): Promise<Row[]> {
  signal?.throwIfAborted();
  const query = client.unsafe(text, [...params]);
  if (signal === undefined) return [...(await query)] as Row[];
  let timer: ReturnType<typeof setTimeout> | undefined;
  let abort = (): void => {};
  const abandoned = new Promise<never>((_, reject) => {
    abort = () => {
      if (query.active) query.cancel();
      timer = setTimeout(() => {
        unanswered();
        reject(signal.reason);
      }, cancelledWithinMs);
    };
  });
  signal.addEventListener("abort", abort, { once: true });
  try {
    return [...(await Promise.race([query, abandoned]))] as Row[];
  } finally {
    signal.removeEventListener("abort", abort);
    clearTimeout(timer);
  }
}

/** A client does not lead to its class. */
function newPool(options: object): BunSqlPool & Required<Listening> {
  const { Bun } = globalThis as unknown as { Bun: { SQL: new (options: object) => BunSqlPool & Required<Listening> } };
  return new Bun.SQL(options);
}

async function openListener(
  { options }: BunSqlPool,
  channel: string,
  onNotify: (payload: string) => void,
  onListen: () => void,
  signal: AbortSignal | undefined,
): Promise<Listener> {
  signal?.throwIfAborted();
  const own = newPool({ ...options, max: 1, idleTimeout: 0, maxLifetime: 0 });
  let closed = false;
  const close = async (): Promise<void> => {
    closed = true;
    await own.close({ timeout: 0 });
  };
  let timer: ReturnType<typeof setTimeout> | undefined;
  let abort = (): void => {};
  // A server that accepts a connection, and no more, is waited for by Bun for ever.
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(unanswered()), connectWithinMs);
    abort = () => reject(signal?.reason);
  });
  signal?.addEventListener("abort", abort, { once: true });
  try {
    const listening = own.listen(
      channel,
      (payload) => {
        if (!closed) onNotify(payload);
      },
      () => {
        if (!closed) onListen();
      },
    );
    await Promise.race([listening, late]);
  } catch (error) {
    await close();
    throw error;
  } finally {
    clearTimeout(timer);
    signal?.removeEventListener("abort", abort);
  }
  return { close };
}
