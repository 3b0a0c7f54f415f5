/**
 * node-postgres (the npm package `pg`): a pool or a client of the caller's, the client of an open transaction, or the URL
 * of a database to open a pool for.
 *
 * Of a pool each statement checks a client out, so that one whose connection does not answer can be taken out of the
 * pool. LISTEN has a connection of its own, opened with the pool's options and opened anew whenever it ends.
 */

import { createHash } from "node:crypto";
// @ts-types="npm:@types/pg@8"
import { Client, type ClientConfig, Pool, type PoolConfig } from "pg";
import type { Driver, Listener, Param, Queryable } from "../src/driver.ts";
import { shown } from "../src/limits.ts";
import { keepListening, type ListeningConnection } from "./keep-listening.ts";
import { within } from "./within.ts";

/** The part of a client of pg that the adapter uses; in a transaction it is the one on which it was begun. */
export interface NodePostgresClient {
  query(statement: NodePostgresStatement): Promise<{ rows: unknown[] }>;
  on(event: "error", listener: (error: Error) => void): unknown;
  removeListener(event: "error", listener: (error: Error) => void): unknown;
}

/** A statement as pg takes it. */
export interface NodePostgresStatement {
  readonly text: string;
  readonly values?: (string | number | boolean | null)[];
  readonly name?: string;
  readonly types?: { getTypeParser(oid: number): (value: string) => string | number | boolean };
}

/** A client that a pool has given out. Giving it back is up to who took it. */
export interface NodePostgresPoolClient extends NodePostgresClient {
  release(error?: Error | boolean): void;
}

/** A pool of pg: `new Pool(…)`. */
export interface NodePostgresPool {
  readonly options: object;
  readonly totalCount: number;
  readonly idleCount: number;
  connect(): Promise<NodePostgresPoolClient>;
  on(event: "error", listener: (error: Error) => void): unknown;
}

/** A client of one's own: `new Client(…)`. */
export interface NodePostgresSingleClient extends NodePostgresClient {
  readonly host: string;
  readonly port: number;
  connect(): Promise<unknown>;
  end(): Promise<void>;
}

export interface NodePostgresOptions {
  /**
   * Whether statements are prepared, under names made of their texts. A pooler in transaction mode may not take it: a
   * statement that the server does not know any more is sent again unprepared, and after three of them none is prepared.
   * In a transaction that would come too late: on a client none is, unless it is connected to the server itself, which is
   * asked at its second statement.
   *
   * @default true
   */
  readonly prepare?: boolean;
  /**
   * Where to listen instead: the URL of the same database, or a pool on it, whose options are used. Behind a pooler in
   * transaction mode notifications only arrive on a direct connection. `false` turns listening off; workers poll.
   *
   * @default as the pool or the client
   */
  readonly listen?: string | NodePostgresPool | false;
}

/** A database that the adapter opened a pool for. Closing it is up to who called. */
export interface NodePostgresDatabase extends Required<Driver>, AsyncDisposable {
  /** The pool, for statements and transactions of one's own. */
  readonly pool: Pool;
  /** Ends the pool: open statements have `timeoutMs` (default 5000) to finish. A second call is harmless. */
  close(options?: { timeoutMs?: number }): Promise<void>;
}

type WithoutListen = { readonly listen: false };

/** How long a cancelled statement may take to say so; one on a lost connection never does. */
const cancelledWithinMs = 1_000;
const connectWithinMs = 10_000;
/** After this time of silence the kernel asks whether the other side of a LISTEN connection is still there. */
const keepAliveMs = 10_000;

/**
 * A client ends with its connection, and pg does not open another one for it: give a worker a pool.
 *
 * A connection that ends while nobody uses it is an event `error` of its pool or client, which ends the process where
 * nobody listens. The adapter does: what comes of it are statements that fail, and are sent again.
 *
 * @example
 * ```ts
 * const database = nodePostgres(process.env.DATABASE_URL); // opens a pool: close it
 * const database = nodePostgres(pool); // the caller's pool
 * await client.query("begin");
 * await orchestrator.push(sendEmail({ to }), { db: nodePostgres(client) });
 * await client.query("commit");
 * ```
 */
export function nodePostgres(
  url: string,
  options: PoolConfig & NodePostgresOptions & WithoutListen,
): Omit<NodePostgresDatabase, "listen">;
export function nodePostgres(url: string, options?: PoolConfig & NodePostgresOptions): NodePostgresDatabase;
export function nodePostgres(client: NodePostgresPoolClient, options?: NodePostgresOptions): Queryable;
export function nodePostgres(
  target: NodePostgresPool | NodePostgresSingleClient,
  options: NodePostgresOptions & WithoutListen,
): Omit<Required<Driver>, "listen">;
export function nodePostgres(
  target: NodePostgresPool | NodePostgresSingleClient,
  options?: NodePostgresOptions,
): Required<Driver>;
export function nodePostgres(
  target: string | NodePostgresPool | NodePostgresClient,
  options: PoolConfig & NodePostgresOptions = {},
): Driver | Queryable {
  if (typeof target === "string") return openDatabase(target, options);
  if (typeof (target as NodePostgresClient | undefined)?.on === "function") {
    if ("totalCount" in target) return poolDriver(target, options);
    if ("release" in target) return clientQueryable(target, preparerOf(target, options));
    if ("query" in target) return clientDriver(target as NodePostgresSingleClient, options);
  }
  throw new TypeError(
    `Cannot use this as a database of pg: it must be a URL, a pool or a client, got ${shown(target)}`,
  );
}

function openDatabase(url: string, options: PoolConfig & NodePostgresOptions): Driver {
  const { prepare = true, listen, ...config } = options;
  const pool = new Pool({ connectionTimeoutMillis: connectWithinMs, ...config, connectionString: url });
  let ended: Promise<void> | undefined;
  const close = async ({ timeoutMs = 5_000 } = {}): Promise<void> => {
    ended ??= pool.end();
    await within(timeoutMs, ended);
  };
  const driver = poolDriver(pool, { prepare, ...(listen === undefined ? {} : { listen }) });
  return Object.assign(driver, { pool, close, [Symbol.asyncDispose]: () => close() });
}

function poolDriver(pool: NodePostgresPool, options: NodePostgresOptions): Driver {
  const prepared = preparer(options);
  listenForErrors(pool);
  const run = async (statement: NodePostgresStatement, signal?: AbortSignal): Promise<unknown[]> => {
    signal?.throwIfAborted();
    const client = await checkOut(pool, signal);
    // What was learned of the pool holds for transactions on its clients, which an unknown name would spoil.
    preparers.set(client, prepared);
    client.on("error", ignore);
    // Where one connection does not answer, the others that were open will hardly be better.
    const unanswered = (): void => dropIdle(pool);
    signal?.addEventListener("abort", unanswered, { once: true });
    let isReusable = false;
    try {
      const rows = await answer(client, client.query(statement), signal);
      isReusable = true;
      return rows;
    } catch (error) {
      // What the server has refused leaves the connection as it was.
      isReusable = (error as { severity?: unknown }).severity === "ERROR";
      throw error;
    } finally {
      signal?.removeEventListener("abort", unanswered);
      client.removeListener("error", ignore);
      // A cancellation may come late, and meet whatever statement is the next.
      client.release(!isReusable || signal?.aborted === true);
    }
  };
  return withListen(options.listen ?? pool, {
    name: "node-postgres",
    query: <Row>(text: string, params: readonly Param[], given?: { signal?: AbortSignal }) =>
      prepared(text, params, (statement) => run(statement, given?.signal)) as Promise<Row[]>,
    // Several statements in one message are one transaction, and one round trip.
    script: async (text) => void (await run({ text })),
  });
}

function clientDriver(client: NodePostgresSingleClient, options: NodePostgresOptions): Driver {
  listenForErrors(client);
  const { query } = clientQueryable(client, preparer(options));
  return withListen(options.listen ?? client, {
    name: "node-postgres",
    query,
    script: (text) => inTurn(client, async () => void (await client.query({ text }))),
  });
}

const clientQueryable = (client: NodePostgresClient, prepared: Preparer): Queryable => ({
  query: <Row>(text: string, params: readonly Param[], options?: { signal?: AbortSignal }) =>
    inTurn(client, () => {
      const run: Run = async (statement) => {
        options?.signal?.throwIfAborted();
        return await answer(client, client.query(statement), options?.signal);
      };
      return prepared(text, params, run, () => isDirect(client, text, run));
    }) as Promise<Row[]>,
});

/** Clients that were used, and whether they are connected to the server itself; undefined where that was not asked yet. */
const directness = new WeakMap<object, boolean | undefined>();

/**
 * Whether a statement may be prepared on a client that may have a transaction open, which one that the server does not
 * know would spoil. A pooler tells its clients process ids of its own. Asked at the second statement, since many have only
 * one, and before none that wants to be the transaction's first, as `set transaction` does.
 */
async function isDirect(client: NodePostgresClient, text: string, run: Run): Promise<boolean> {
  let direct = directness.get(client);
  if (direct === undefined && directness.has(client) && /^\s*(?:select|with|insert|update|delete)\b/i.test(text)) {
    const { processID } = client as Inside;
    const [row] = (await run({ text: "select pg_backend_pid() as pid", types })) as { pid: number }[];
    direct = row?.pid === processID;
  }
  directness.set(client, direct);
  return direct === true;
}

/** Takes them out as anybody would: by giving them back as broken. */
function dropIdle(pool: NodePostgresPool): void {
  for (let left = pool.idleCount; left > 0; left -= 1) {
    void pool
      .connect()
      .then((client) => client.release(true))
      .catch(ignore);
  }
}

/** The newest statement of each client: pg gives up queueing the others, which a client then mixes up. */
const newest = new WeakMap<object, Promise<unknown>>();

function inTurn<T>(client: object, work: () => Promise<T>): Promise<T> {
  const before = newest.get(client);
  const result = before === undefined ? work() : before.then(work);
  newest.set(
    client,
    result.catch(() => {}),
  );
  return result;
}

async function checkOut(pool: NodePostgresPool, signal: AbortSignal | undefined): Promise<NodePostgresPoolClient> {
  const connecting = pool.connect().catch((error: unknown) => {
    // `end` was called, for which there is no way back: a mistake, as a TypeError is, and no use to try again.
    const isEnded = (pool as { readonly ending?: boolean }).ending === true;
    throw isEnded ? new TypeError("Cannot run a statement: its pool was ended", { cause: error }) : error;
  });
  if (signal === undefined) return await connecting;
  const { promise, leave } = aborted(signal);
  try {
    return await Promise.race([connecting, promise]);
  } catch (error) {
    if (signal.aborted) void connecting.then((client) => client.release()).catch(ignore);
    throw error;
  } finally {
    leave();
  }
}

/** Waits for a statement; where `signal` aborts, it is cancelled, and waited for a little longer. */
async function answer(
  client: NodePostgresClient,
  statement: Promise<{ rows: unknown[] }>,
  signal: AbortSignal | undefined,
): Promise<unknown[]> {
  if (signal === undefined) return (await statement).rows;
  const { promise, leave } = aborted(signal);
  try {
    return (await Promise.race([statement, promise])).rows;
  } catch (error) {
    if (!signal.aborted) throw error;
    cancel(client);
    const result = await within(cancelledWithinMs, statement);
    statement.catch(ignore);
    if (result === undefined) throw signal.reason;
    return result.rows;
  } finally {
    leave();
  }
}

function aborted(signal: AbortSignal): { promise: Promise<never>; leave: () => void } {
  let leave = (): void => {};
  const promise = new Promise<never>((_, reject) => {
    const abort = (): void => reject(signal.reason);
    signal.addEventListener("abort", abort, { once: true });
    leave = () => signal.removeEventListener("abort", abort);
  });
  return { promise, leave };
}

/** What of a client is not among its types: how it reached the server, and by what the server knows it. */
interface Inside {
  readonly connectionParameters?: object & { host?: string; port?: number; password?: unknown };
  readonly processID?: number | null;
  readonly secretKey?: number | null;
  readonly connection?: {
    readonly stream: { destroy(): void };
    readonly ssl: unknown;
    readonly sslNegotiation?: string;
    on(event: string, listener: () => void): void;
    connect(port: number | undefined, host: string | undefined): void;
    requestSsl(): void;
    cancel(processId: number, secretKey: number): void;
  };
}

/** PostgreSQL's own way: a message on another connection, which goes through poolers, too. It may fail to arrive. */
function cancel(client: NodePostgresClient): void {
  const { connectionParameters, processID, secretKey } = client as Inside;
  if (!connectionParameters || !processID || !secretKey) return;
  const { host, port } = connectionParameters;
  const { connection } = new Client(configOf(connectionParameters)) as unknown as Inside;
  if (!connection) return;
  const timer = setTimeout(() => connection.stream.destroy(), cancelledWithinMs);
  connection.on("connect", () => {
    if (!connection.ssl) connection.cancel(processID, secretKey);
    else if (connection.sslNegotiation !== "direct") connection.requestSsl();
  });
  connection.on("sslconnect", () => connection.cancel(processID, secretKey));
  connection.on("error", ignore);
  connection.on("end", () => clearTimeout(timer));
  if (host?.startsWith("/")) connection.connect(`${host}/.s.PGSQL.${port}` as unknown as number, undefined);
  else connection.connect(port, host);
}

/** Passwords are hidden from whoever lists the properties. */
const configOf = (options: object): ClientConfig =>
  ({ ...options, password: (options as { password?: unknown }).password }) as ClientConfig;

type Run = (statement: NodePostgresStatement) => Promise<unknown[]>;

/** `mayPrepare` is asked before a statement is sent under a name. */
type Preparer = (
  text: string,
  params: readonly Param[],
  run: Run,
  mayPrepare?: () => Promise<boolean>,
) => Promise<unknown[]>;

/** Most errors that say that a prepared statement is not what was meant; then preparing is given up. */
const maxForgotten = 3;

/** A client of a pool is handed out again and again: what was learned of its sessions is remembered. */
const preparers = new WeakMap<object, Preparer>();

function preparerOf(client: object, options: NodePostgresOptions): Preparer {
  if (options.prepare === false) return preparer(options);
  const own = preparers.get(client) ?? preparer(options);
  preparers.set(client, own);
  return own;
}

/** Sends statements under names, and without one where the server has forgotten it: it has not run then. */
function preparer({ prepare = true }: NodePostgresOptions): Preparer {
  // The same name must mean the same text in every process: they may share the server's sessions.
  const names = new Map<string, string>();
  let forgotten = prepare ? 0 : maxForgotten;
  return async (text, params, run, mayPrepare) => {
    const statement = { text, values: [...params], types };
    if (forgotten >= maxForgotten || (await mayPrepare?.()) === false) return await run(statement);
    let name = names.get(text);
    if (name === undefined) {
      name = `orchestratum_${createHash("sha256").update(text).digest("hex").slice(0, 40)}`;
      names.set(text, name);
    }
    try {
      return await run({ ...statement, name });
    } catch (error) {
      if (!isForgotten(error)) throw error;
      forgotten += 1;
      // In a transaction this one fails as well, by what the first has left behind: the next one is not to meet it again.
      return await run(statement).catch((second: unknown) => {
        if ((second as { code?: unknown }).code !== "25P02") throw second;
        forgotten = maxForgotten;
        throw error;
      });
    }
  };
}

/** No such prepared statement; another one of this name; one whose result has changed since. */
function isForgotten(error: unknown): boolean {
  const { code, routine } = error as { code?: unknown; routine?: unknown };
  return code === "26000" || code === "42P05" || (code === "0A000" && routine === "RevalidateCachedQuery");
}

/** As text but for numbers that JavaScript can hold and booleans, whatever parsers are set in the process or the pool. */
const types = {
  getTypeParser(oid: number): (value: string) => string | number | boolean {
    if (oid === 16) return (value) => value === "t";
    return [21, 23, 26, 700, 701].includes(oid) ? Number : String;
  },
};

function ignore(): void {}

const listenedTo = new WeakSet<object>();
function listenForErrors(target: NodePostgresPool | NodePostgresClient): void {
  if (listenedTo.has(target)) return;
  listenedTo.add(target);
  target.on("error", ignore);
}

function withListen(
  target: string | false | NodePostgresPool | NodePostgresSingleClient,
  driver: Omit<Driver, "listen">,
): Driver {
  if (target === false) return driver;
  const config =
    typeof target === "string"
      ? { connectionString: target }
      : configOf("options" in target ? target.options : ((target as Inside).connectionParameters ?? {}));
  return {
    ...driver,
    listen: (channel, onNotify, onListen, given) => openListener(config, channel, onNotify, onListen, given?.signal),
  };
}

function openListener(
  config: ClientConfig,
  channel: string,
  onNotify: (payload: string) => void,
  onListen: () => void,
  signal: AbortSignal | undefined,
): Promise<Listener> {
  const open = (notify: (payload: string) => void): ListeningConnection => {
    const client = new Client({ ...config, keepAlive: true, keepAliveInitialDelayMillis: keepAliveMs });
    const lost = new Promise<void>((resolve) => {
      client.on("end", resolve);
      client.on("error", () => resolve());
    });
    client.on("notification", (message) => {
      if (message.channel === channel) notify(message.payload ?? "");
    });
    const listening = client.connect().then(() => client.query(`listen "${channel.replaceAll('"', '""')}"`));
    // It is asked for once, and may be rejected once more by what ends it.
    listening.catch(ignore);
    const end = async (): Promise<void> => {
      await within(100, client.end().catch(ignore));
      (client as unknown as Inside).connection?.stream.destroy();
    };
    return { listening, lost, end };
  };
  return keepListening(open, onNotify, onListen, signal);
}
