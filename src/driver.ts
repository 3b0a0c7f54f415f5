/**
 * The seam between the core and a database. Everything else (pools, ORMs, edge drivers, the caller's open
 * transaction) is an adapter of a few dozen lines over these methods. A missing method is a missing capability.
 */

/** What a statement may bind. JSON, and so every list, is bound as text and cast in SQL: `$1::text::json`. */
export type Param = string | number | boolean | null;

/** Anything that can run one statement: a pool, a connection, or the caller's open transaction. */
export interface Queryable {
  /**
   * Runs one statement and answers its rows.
   *
   * An adapter MUST return ids, JSON and 64-bit integers as the text that the statement casts them to, MUST reject
   * with an error that carries the server's SQLSTATE in `code` or `errno` (and is no TypeError, RangeError or SyntaxError
   * where it was the network's fault: those are taken for mistakes, and not tried again), and SHOULD cancel the statement when
   * `signal` aborts. The core races a deadline of its own in any case.
   */
  query<Row>(text: string, params: readonly Param[], options?: { signal?: AbortSignal }): Promise<Row[]>;
}

/** A subscription to notifications on one channel. */
export interface Listener {
  /** Stops listening and frees the connection. A second call is harmless. */
  close(): Promise<void>;
}

/** A database, as the core sees it. Who opens it closes it: an adapter that opened one is `AsyncDisposable`. */
export interface Driver extends Queryable {
  /** For messages and telemetry: `postgres-js`, `pglite`, … */
  readonly name: string;
  /** Runs a multi-statement script in one transaction. Migrations only. */
  script(text: string): Promise<void>;
  /**
   * Absent where there is no session (HTTP drivers, edge): the core then polls. `onListen` MUST run after every
   * connection and reconnection, since what was sent in between is lost: the core polls once at that point. An adapter
   * SHOULD reject and free the connection when `signal` aborts before it listens; after that the signal says nothing.
   */
  listen?(
    channel: string,
    onNotify: (payload: string) => void,
    onListen: () => void,
    options?: { signal?: AbortSignal },
  ): Promise<Listener>;
}
