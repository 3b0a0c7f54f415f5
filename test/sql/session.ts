/**
 * The functions of sql/functions as the library calls them, from sessions that a test steps against each other.
 *
 * A session is one connection. Where a function takes a clock, `at` sets it; without, the statement is the library's own
 * to the letter. Sessions have a time zone and a way to write dates that no function should mind, and a lock timeout, so
 * that a statement which waits where it must not ends with 55P03 instead of stopping the test run.
 */

import postgres from "postgres";
import { afterAll, afterEach, beforeAll, expect, vi } from "vitest";
import type { Param } from "../../src/driver.ts";
import { queries } from "../../src/sql.generated.ts";
import { uuidv7 } from "../../src/uuid.ts";
import { createDatabase, type Database } from "../database.ts";

export interface Command {
  readonly id?: string;
  readonly name?: string;
  readonly version?: number;
  readonly hook?: string;
  readonly queue?: string;
  readonly priority?: number;
  readonly due_at?: string;
  readonly delay_ms?: number;
  readonly max_attempts?: number;
  readonly timeout_ms?: number;
  readonly awaited?: boolean;
  readonly parent_id?: string;
  readonly input?: unknown;
  /** Its input is JSON's null. */
  readonly null_input?: boolean;
  readonly metadata?: unknown;
}

export interface Pushed {
  readonly id: string;
  readonly queue: string;
  readonly available_at: string;
}

export interface Lane {
  readonly queue: string;
  readonly priority?: number;
  readonly mark_at?: string | null;
}

export interface Claimed {
  readonly id: string;
  readonly name: string;
  readonly version: number;
  readonly hook: string | null;
  readonly purpose: string;
  readonly fence: number;
  readonly attempt: number;
  readonly max_attempts: number;
  readonly losses: number;
  readonly abandoned_by: string | null;
  readonly timeout_ms: number;
  readonly parent_id: string | null;
  readonly unknown_since: string | null;
  readonly input: string | null;
  readonly metadata: string | null;
  readonly lane: number;
  readonly available_at: string;
}

export interface ClaimOptions {
  readonly worker?: string;
  readonly maxCount?: number;
  readonly maxBytes?: number;
  readonly leaseMs?: number;
  readonly maxLosses?: number;
  readonly at?: string;
}

export interface Outcome {
  readonly id: string;
  readonly fence: number;
  readonly verdict: string;
  readonly output?: unknown;
  /** Its output is JSON's null. */
  readonly null_output?: boolean;
  readonly error?: object;
  readonly delay_ms?: number;
  readonly until?: string;
  readonly follow_ups?: readonly Command[];
}

export interface LeaseResult {
  readonly id: string;
  readonly fence: number;
  readonly result: string;
}

export interface Hint {
  readonly queue: string;
  readonly available_at: string;
}

/** A command as get() answers it, JSON still as text. */
export interface Known {
  readonly id: string;
  readonly name: string;
  readonly version: number;
  readonly hook: string | null;
  readonly queue: string;
  readonly priority: number;
  readonly status: string;
  readonly input: string | null;
  readonly output: string | null;
  readonly progress: string | null;
  readonly metadata: string | null;
  readonly trail: string | null;
  readonly fence: number;
  readonly attempt: number;
  readonly max_attempts: number;
  readonly losses: number;
  readonly timeout_ms: number;
  readonly worker: string | null;
  readonly parent_id: string | null;
  readonly created_at: string;
  readonly due_at: string;
  readonly available_at: string | null;
  readonly started_at: string | null;
  readonly finished_at: string | null;
  readonly cancel_requested_at: string | null;
  readonly unknown_since: string | null;
}

/** The text of a query, with the clock that its function takes as a last argument. */
const withClock = (text: string, place: number): string =>
  text.replace(/\)(?=$|\nwhere)/, `, $${place}::text::timestamptz)`);

const json = (value: unknown): string => (typeof value === "string" ? value : JSON.stringify(value));

const literal = (value: unknown): string =>
  typeof value === "number" || typeof value === "boolean" || value === null
    ? String(value)
    : `'${json(value).replaceAll("'", "''")}'`;

/** Runs what was prepared as `hot_…`. */
export const execution = (statement: string, params: readonly unknown[]): string =>
  `execute hot_${statement} (${params.map(literal).join()})`;

interface Plan {
  readonly "Shared Hit Blocks": number;
  readonly "Shared Read Blocks": number;
  readonly "Temp Read Blocks": number;
  readonly "Temp Written Blocks": number;
  readonly "Actual Rows": number;
}

export class Session implements AsyncDisposable {
  readonly #sql: postgres.Sql;
  readonly pid: number;

  static async open(database: { url: string }): Promise<Session> {
    const sql: postgres.Sql = postgres(database.url, {
      max: 1,
      fetch_types: false,
      onnotice: () => {},
      connection: { TimeZone: "Asia/Tokyo", DateStyle: "German", lock_timeout: 10_000 },
    });
    const [row] = await sql<{ pid: number }[]>`select pg_backend_pid() as pid`;
    return new Session(sql, row?.pid ?? 0);
  }

  private constructor(sql: postgres.Sql, pid: number) {
    this.#sql = sql;
    this.pid = pid;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#sql.end({ timeout: 0 });
  }

  async rows<Row>(text: string, params: readonly Param[] = []): Promise<Row[]> {
    return [...(await this.#sql.unsafe(text, [...params]))] as Row[];
  }

  /** The only row, or the first. */
  async row<Row>(text: string, params: readonly Param[] = []): Promise<Row> {
    const [row] = await this.rows<Row>(text, params);
    if (row === undefined) throw new Error(`Cannot find a row: ${text}`);
    return row;
  }

  /** How many pages a statement touches, those inside functions among them, how many of files, and how many rows it answers. */
  async explain(text: string): Promise<{ pages: number; filePages: number; rows: number }> {
    const {
      "QUERY PLAN": [{ Plan: plan }],
    } = await this.row<{ "QUERY PLAN": [{ Plan: Plan }] }>(`explain (analyze, buffers, format json) ${text}`);
    return {
      pages: plan["Shared Hit Blocks"] + plan["Shared Read Blocks"],
      filePages: plan["Temp Read Blocks"] + plan["Temp Written Blocks"],
      rows: plan["Actual Rows"],
    };
  }

  async begin(): Promise<void> {
    await this.rows("begin");
  }

  async commit(): Promise<void> {
    await this.rows("commit");
  }

  /** Harmless outside a transaction. */
  async rollback(): Promise<void> {
    await this.rows("rollback");
  }

  /** Opens a transaction, and holds the locks of these commands in it. */
  async lock(...ids: string[]): Promise<void> {
    await this.begin();
    const rows = await this.rows(
      "select from orchestratum.command c where c.id = any ($1::text::uuid[]) order by c.id for update",
      [`{${ids.join()}}`],
    );
    expect(rows).toHaveLength(ids.length);
  }

  /** `commands` may be JSON that somebody else has written. */
  async push(commands: readonly Command[] | string, { repeat = false, at }: { repeat?: boolean; at?: string } = {}) {
    const params = [json(typeof commands === "string" ? commands : commands.map(named)), repeat];
    return at === undefined
      ? await this.rows<Pushed>(queries.pushBatch, params)
      : await this.rows<Pushed>(withClock(queries.pushBatch, 3), [...params, at]);
  }

  /** In the order of the lanes, and in each of what is available first. */
  async claim(lanes: readonly Lane[] | string, options: ClaimOptions = {}) {
    const { worker = "worker", maxCount = 100, maxBytes = 8_000_000, leaseMs = 30_000, maxLosses = 3, at } = options;
    const given = typeof lanes === "string" ? [{ queue: lanes }] : lanes;
    const complete = given.map((lane) => ({ priority: 5, mark_at: "-infinity", ...lane }));
    const params = [worker, json(complete), maxCount, maxBytes, leaseMs, maxLosses];
    const rows = await (at === undefined
      ? this.rows<Claimed & { more: boolean | null }>(queries.claim, params)
      : this.rows<Claimed & { more: boolean | null }>(withClock(queries.claim, 7), [...params, at]));
    const last = rows.pop();
    expect(last).toMatchObject({ id: null, more: expect.any(Boolean) });
    const commands = rows
      .map(({ more: _, ...command }): Claimed => command)
      .toSorted((a, b) => a.lane - b.lane || order(a.available_at, b.available_at));
    return { commands, clock: last?.available_at ?? "", more: last?.more ?? false };
  }

  /**
   * `outcomes` may be JSON that somebody else has written; a follow-up without a name gets one. The statement names what
   * was not accepted, and what somebody waits for; the results name the others, too.
   */
  async finish(worker: string, outcomes: readonly Outcome[] | string, { at }: { at?: string } = {}) {
    interface Row extends LeaseResult {
      awaited: boolean;
      queue: string;
      available_at: string;
    }
    const given =
      typeof outcomes === "string"
        ? outcomes
        : outcomes.map(({ follow_ups, ...outcome }) => ({ ...outcome, follow_ups: follow_ups?.map(named) }));
    const params = [worker, json(given)];
    const rows = await (at === undefined
      ? this.rows<Row>(queries.finish, params)
      : this.rows<Row>(withClock(queries.finish, 3), [...params, at]));
    const key = ({ id, fence }: Pick<LeaseResult, "id" | "fence">) => `${id}:${fence}`;
    const told = new Map(rows.filter(({ result }) => result !== "due").map((row) => [key(row), row]));
    const leases = new Map((JSON.parse(json(given)) as LeaseResult[]).map((outcome) => [key(outcome), outcome]));
    return {
      results: [...leases].map(([of, { id, fence }]): LeaseResult => {
        return { id, fence, result: told.get(of)?.result ?? "accepted" };
      }),
      awaited: rows.filter(({ awaited }) => awaited).map(({ id }) => id),
      due: hints(rows.filter(({ result }) => result === "due")),
    };
  }

  /** The result of one outcome. */
  async end(worker: string, outcome: Outcome, options: { at?: string } = {}): Promise<string | undefined> {
    const { results } = await this.finish(worker, [outcome], options);
    expect(results).toHaveLength(1);
    return results[0]?.result;
  }

  async heartbeat(
    worker: string,
    leases: readonly { id: string; fence: number; progress?: unknown }[],
    { leaseMs = 30_000, at }: { leaseMs?: number; at?: string } = {},
  ) {
    type Row = LeaseResult & { cancel_requested: boolean };
    const params = [worker, json(leases), leaseMs];
    return at === undefined
      ? await this.rows<Row>(queries.heartbeat, params)
      : await this.rows<Row>(withClock(queries.heartbeat, 4), [...params, at]);
  }

  async cancel(ids: readonly string[]) {
    interface Row {
      id: string;
      result: string;
      awaited: boolean;
      queue: string;
      available_at: string;
    }
    const rows = await this.rows<Row>(queries.cancel, [json(ids)]);
    const cancelled = rows.filter(({ result }) => result !== "due");
    return {
      results: new Map(cancelled.map(({ id, result }) => [id, result])),
      awaited: cancelled.filter(({ awaited }) => awaited).map(({ id }) => id),
      due: hints(rows.filter(({ result }) => result === "due")),
    };
  }

  async confirm(worker: string, leases: readonly { id: string; fence: number }[]) {
    return await this.rows<LeaseResult>(queries.confirm, [worker, json(leases)]);
  }

  async giveBack(
    worker: string,
    lanes: readonly Lane[],
    known: readonly { id: string; fence: number }[],
    { leaseMs = 30_000, at }: { leaseMs?: number; at?: string } = {},
  ): Promise<number> {
    const params = [worker, json(lanes.map((lane) => ({ priority: 5, ...lane }))), json(known), leaseMs];
    const text = queries.giveBack.replace(") as count", ", $5::text::timestamptz) as count");
    const { count } = await (at === undefined
      ? this.row<{ count: number }>(queries.giveBack, params)
      : this.row<{ count: number }>(text, [...params, at]));
    return count;
  }

  async nextDue(queues: readonly string[], at: string): Promise<string | null> {
    return (await this.row<{ available_at: string | null }>(queries.nextDue, [json(queues), at])).available_at;
  }

  async waitFor(ids: readonly string[]) {
    interface Row {
      id: string;
      result: string;
      name: string | null;
      version: number | null;
      status: string | null;
      output: string | null;
      trail: string | null;
      finished_at: string | null;
    }
    return await this.rows<Row>(queries.waitFor, [json(ids)]);
  }

  async get(ids: readonly string[], { at }: { at?: string } = {}) {
    return at === undefined
      ? await this.rows<Known>(queries.get, [json(ids)])
      : await this.rows<Known>(withClock(queries.get, 2), [json(ids), at]);
  }

  /** One command that must be there. */
  async look(id: string, options: { at?: string } = {}): Promise<Known> {
    const [known, ...others] = await this.get([id], options);
    expect(others).toEqual([]);
    if (known === undefined) throw new Error(`Cannot find command ${id}`);
    return known;
  }

  /** What is kept of a command's leases. */
  async trail(id: string): Promise<unknown> {
    return JSON.parse((await this.look(id)).trail ?? "[]");
  }

  /** Pushes commands to a queue and claims them; in the order given. */
  async lease(queue: string, commands: readonly Command[], { at = time(0), ...options }: ClaimOptions = {}) {
    await this.push(
      commands.map((command) => ({ ...command, queue })),
      { at },
    );
    const claim = await this.claim(queue, { ...options, at: laterBy(at, commands.length) });
    expect(claim.commands).toHaveLength(commands.length);
    return claim.commands;
  }

  /** The same by the server's own clock, for what has no other. */
  async leaseNow(queue: string, commands: readonly Command[] = [{}], options: ClaimOptions = {}) {
    await this.push(commands.map((command) => ({ ...command, queue })));
    const claim = await this.claim(queue, { maxCount: 1_000, ...options });
    expect(claim.commands).toHaveLength(commands.length);
    return claim.commands;
  }

  /** One command, pushed and leased by `worker` at `at`. */
  async leaseOne(queue: string, command: Command = {}, options: ClaimOptions = {}): Promise<Claimed> {
    const [claimed] = await this.lease(queue, [command], options);
    if (claimed === undefined) throw new Error("Cannot lease a command");
    return claimed;
  }
}

const named = (command: Command): Command => ({ name: "work", ...command });

const order = (a: string, b: string): number => (a < b ? -1 : Number(a > b));

const hints = (rows: readonly Hint[]): Hint[] =>
  rows
    .map(({ queue, available_at }) => ({ queue, available_at }))
    .toSorted((a, b) =>
      // By nothing that the server's collation could decide otherwise.
      order(a.queue, b.queue),
    );

const epochMs = Date.UTC(2025, 0, 1);

/** `ms` after the beginning of 2025, in the past for every server, as the functions write times. */
export function time(ms: number, microseconds = 0): string {
  const iso = new Date(epochMs + ms).toISOString();
  const fraction = `${iso.slice(20, 23)}${String(microseconds).padStart(3, "0")}`.replace(/0+$/, "");
  return `${iso.slice(0, 10)} ${iso.slice(11, 19)}${fraction === "" ? "" : `.${fraction}`}+00`;
}

/** The same time as it stands in the JSON of a trail. */
export const jsonTime = (ms: number): string => time(ms).replace(" ", "T").replace(/\+00$/, "+00:00");

/** Milliseconds since the beginning of 2025, of a time as the functions write it. */
export const msOf = (at: string): number => Date.parse(at.replace(" ", "T").replace("+00", "Z")) - epochMs;

/** The last of a batch of `count` that was pushed at `at` is due by then. */
const laterBy = (at: string, count: number): string => (count > 1 ? time(msOf(at) + 1) : at);

/** A database of this file's own, and sessions on it. What a test leaves open is rolled back after it. */
export function useSessions() {
  let database: Database | undefined;
  const sessions: Session[] = [];
  const session = (place: number): Session => {
    const found = sessions[place];
    if (found === undefined) throw new Error("Cannot use a session before the tests run");
    return found;
  };

  beforeAll(async () => {
    database = await createDatabase({ max: 1 });
    for (let count = 0; count < 3; count += 1) sessions.push(await Session.open(database));
  });
  afterEach(() => Promise.all(sessions.map((one) => one.rollback())));
  afterAll(async () => {
    await Promise.all(sessions.map((one) => one[Symbol.asyncDispose]()));
    await database?.drop();
  });

  let queues = 0;
  return {
    get one(): Session {
      return session(0);
    },
    get two(): Session {
      return session(1);
    },
    get three(): Session {
      return session(2);
    },
    get url(): string {
      return database?.url ?? "";
    },
    /** One that no other test uses; handlers may have its name, too. */
    newQueue(): string {
      queues += 1;
      return `queue_${queues}`;
    },
    /** Resolves when this session's statement waits for a lock. */
    async waitsForLock(waiting: Session): Promise<void> {
      if (database === undefined) throw new Error("Cannot look at locks before the tests run");
      const { sql } = database;
      await vi.waitFor(
        async () => {
          const [row] = await sql<{ waits: boolean }[]>`
            select pg_blocking_pids(${waiting.pid}::int) <> '{}' as waits`;
          expect(row?.waits).toBe(true);
        },
        { timeout: 10_000, interval: 2 },
      );
    },
  };
}

/** Says that some worker has a handler, with these hooks and defaults. */
export async function registerHandler(
  session: Session,
  handler: { name: string; version?: number; hooks?: readonly string[] } & Record<string, unknown>,
): Promise<void> {
  await session.rows(queries.registerHandlers, [
    JSON.stringify([{ version: 1, hooks: [], upgrades: false, ...handler }]),
  ]);
}

export const newId = (): string => uuidv7();
