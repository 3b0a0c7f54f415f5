/**
 * The database as the rest of the core uses it: statements by name, each with a deadline, and errors told apart by
 * what they mean for the caller.
 */
import type { Clock } from "./clock.ts";
import type { Driver, Param, Queryable } from "./driver.ts";
import type { Observer } from "./observation.ts";
import { schemaSql } from "./schema-name.ts";
import { queries } from "./sql.generated.ts";
import { createWakeup, pause } from "./wakeup.ts";

/** A file of sql/queries. */
export type Statement = keyof typeof queries;

export interface Database {
  readonly driver: Driver;
  /** The schema, and the channel of its notifications. */
  readonly schema: string;
  /**
   * Runs a statement. It is raced against a deadline, since a half-open connection never answers; a reply that comes
   * later is dropped unread, and whether it took effect is then unknown.
   */
  run<Row>(statement: Statement, params: readonly Param[], options?: RunOptions): Promise<Row[]>;
}

export interface RunOptions {
  /** Where to run it: the caller's transaction. Without, the driver. */
  readonly db?: Queryable | undefined;
  /** @default 30_000 */
  readonly deadlineMs?: number;
  /** Whoever aborts it gives the statement up, with that reason; the deadline does. @default one of the statement's own */
  readonly controller?: AbortController | undefined;
}

/** A database for somebody who ends one day, and leaves no statement behind. */
export interface OwnDatabase extends Database {
  /**
   * Lets what is under way be answered for `graceMs`, then gives it up, with `reason`, and refuses what is asked after
   * that. Resolves when nothing is under way any more.
   */
  end(reason: Error, graceMs?: number): Promise<void>;
}

export function ownDatabase(database: Database, clock: Clock): OwnDatabase {
  // A controller each: platforms take a signal that more than ten listen to for a leak.
  const open = new Map<Promise<unknown>, AbortController>();
  let ended: { readonly reason: Error } | undefined;
  return {
    ...database,
    run<Row>(statement: Statement, params: readonly Param[], options?: RunOptions): Promise<Row[]> {
      const controller = new AbortController();
      if (ended) controller.abort(ended.reason);
      const running = database.run<Row>(statement, params, { ...options, controller });
      open.set(running, controller);
      const settled = () => void open.delete(running);
      running.then(settled, settled);
      return running;
    },
    async end(reason, graceMs = 0) {
      if (open.size > 0) {
        const grace = createWakeup(clock);
        void Promise.allSettled(open.keys()).then(() => grace.raise());
        await grace.sleep(graceMs);
      }
      ended = { reason };
      for (const controller of open.values()) controller.abort(reason);
      await Promise.allSettled(open.keys());
    },
  };
}

/** A statement was not answered within its deadline. Whether it took effect is unknown. */
export class DatabaseUnresponsiveError extends Error {
  readonly code = "ORCHESTRATUM_DATABASE_UNRESPONSIVE";
  override readonly name = "DatabaseUnresponsiveError";
}

/** The schema is not there, or older than this library. */
export class NotMigratedError extends Error {
  readonly code = "ORCHESTRATUM_NOT_MIGRATED";
  override readonly name = "NotMigratedError";
}

const defaultDeadlineMs = 30_000;

export function createDatabase(driver: Driver, schema: string, clock: Clock, report: Observer): Database {
  const texts = new Map<Statement, string>();

  function textOf(statement: Statement): string {
    let text = texts.get(statement);
    if (text === undefined) {
      text = schemaSql(queries[statement], schema);
      texts.set(statement, text);
    }
    return text;
  }

  return {
    driver,
    schema,
    async run<Row>(statement: Statement, params: readonly Param[], options: RunOptions = {}): Promise<Row[]> {
      const { db = driver, deadlineMs = defaultDeadlineMs, controller = new AbortController() } = options;
      const { signal } = controller;
      signal.throwIfAborted();
      const text = textOf(statement);
      // Listens before the driver does: what gave the statement up is the answer, not what the driver makes of it.
      const givenUp = new Promise<never>((_, reject) => {
        signal.addEventListener("abort", () => reject(signal.reason), { once: true });
      });
      const timer = clock.after(deadlineMs, () => {
        report({ type: "database_unresponsive", operation: statement, afterMs: deadlineMs });
        controller.abort(
          new DatabaseUnresponsiveError(
            `Cannot run ${statement}: the database "${driver.name}" did not answer within ${deadlineMs} ms`,
          ),
        );
      });
      try {
        return await Promise.race([db.query<Row>(text, params, { signal }), givenUp]);
      } catch (error) {
        throw isMissing(error) ? notMigrated(schema, error) : error;
      } finally {
        timer.cancel();
      }
    },
  };
}

function notMigrated(schema: string, cause: unknown): NotMigratedError {
  const misspelt = schema === "orchestratum" ? "" : ", or the schema's name is misspelt";
  return new NotMigratedError(
    `Cannot find what schema "${schema}" must contain: run \`await orchestrator.migrate()\` or \`npx ${migrateCommand(schema)}\` first${misspelt}`,
    { cause },
  );
}

/** What migrates that schema, on the command line. */
export function migrateCommand(schema: string): string {
  return schema === "orchestratum" ? "orchestratum migrate" : `orchestratum migrate --schema ${schema}`;
}

/** A write is sent again for this long before its caller is told of the database's trouble. */
const patienceMs = 10_000;
/** Less is no time for an answer: what is left of the patience then is given up. */
const leastDeadlineMs = 250;

/**
 * Runs `once`, and again where the reply may have been lost: `again` then says that it may be a repeat. A repeat has as
 * its deadline what is left of the patience: drivers wait longer and longer before they connect again, and a whole
 * deadline more would let a caller wait twice as long as it was told.
 *
 * @throws what `once` throws, where that does not pass or the patience has come to its end.
 */
export async function patiently<Result>(
  operation: string,
  { clock, report }: { readonly clock: Clock; readonly report: Observer },
  once: (again: boolean, deadlineMs: number) => Promise<Result>,
): Promise<Result> {
  const until = clock.now() + patienceMs;
  let deadlineMs = patienceMs;
  let trouble: unknown;
  for (let sending = 1; ; sending++) {
    try {
      return await once(sending > 1, deadlineMs);
    } catch (error) {
      if (!isPassing(error)) throw error;
      const spareMs = until - clock.now() - leastDeadlineMs;
      if (spareMs <= 0) throw withTrouble(error, trouble);
      if (!(error instanceof DatabaseUnresponsiveError)) trouble = error;
      report({ type: "database_trouble", operation, error, attempt: sending });
      await pause(clock, Math.min(repeatDelayMs(clock, sending, 1_000), spareMs));
      deadlineMs = Math.max(Math.ceil(until - clock.now()), leastDeadlineMs);
    }
  }
}

/** That nobody answered says less than what was heard before: the driver may have waited to connect once more. */
function withTrouble(error: unknown, trouble: unknown): unknown {
  if (trouble === undefined || !(error instanceof DatabaseUnresponsiveError)) return error;
  const { message, code } = trouble as { message?: unknown; code?: unknown };
  // Where several addresses were tried, Node.js says nothing but the code.
  return new DatabaseUnresponsiveError(`${error.message}; before that: ${message || code}`, { cause: trouble });
}

/** The server's SQLSTATE, wherever the driver puts it; undefined for errors that no server sent. */
export function sqlState(error: unknown): string | undefined {
  if (typeof error !== "object" || error === null) return undefined;
  for (const value of [(error as { code?: unknown }).code, (error as { errno?: unknown }).errno]) {
    // At least one digit: EPIPE has five capital letters, too.
    if (typeof value === "string" && /^(?=.*\d)[0-9A-Z]{5}$/.test(value)) return value;
  }
  return undefined;
}

/** Whether a batch was refused because of what is in it (data, constraints, limits): only then is it to be split. */
export function isPoison(error: unknown): boolean {
  return ["22", "23", "54"].includes(sqlState(error)?.slice(0, 2) ?? "");
}

/** Whether a batch was refused because of where it was sent from: what its leader did, and the others did not. */
export function isLeadersFault(error: unknown): boolean {
  return (error as { code?: unknown } | null)?.code === "ORCHESTRATUM_WOULD_DEADLOCK";
}

/** Whether the same statement may succeed when it is sent again: connections, resources, an operator, a lock, a clash. */
export function isPassing(error: unknown): boolean {
  const state = sqlState(error);
  if (state === undefined) return isConnectionError(error);
  // 25006: the server is read-only, as after a failover, until the right one is found.
  return ["08", "40", "53", "55", "57", "58"].includes(state.slice(0, 2)) || state === "25006";
}

/** An error without a SQLSTATE came from the driver or the network, unless it is one of the language's own (a bug). */
function isConnectionError(error: unknown): boolean {
  return !(
    error instanceof TypeError ||
    error instanceof RangeError ||
    error instanceof SyntaxError ||
    isLeadersFault(error) ||
    error instanceof NotMigratedError
  );
}

/** No such schema, table, column or function. */
function isMissing(error: unknown): boolean {
  return ["3F000", "42P01", "42703", "42883"].includes(sqlState(error) ?? "");
}

/** How long to wait before the `attempt`-th repetition (1, 2, …): full jitter under an exponential bound. */
export function repeatDelayMs(clock: Clock, attempt: number, capMs: number): number {
  return clock.random() * Math.min(capMs, 25 * 2 ** Math.min(attempt, 20));
}
