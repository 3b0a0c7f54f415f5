import { afterAll, beforeAll, expect, test, vi } from "vitest";
import { postgresJs } from "../adapters/postgres-js.ts";
import {
  createDatabase as createStatements,
  DatabaseUnresponsiveError,
  isPassing,
  isPoison,
  NotMigratedError,
  patiently,
  repeatDelayMs,
  sqlState,
} from "../src/database.ts";
import type { Driver } from "../src/driver.ts";
import type { Observation } from "../src/observation.ts";
import { createDatabase, type Database } from "./database.ts";
import { createFakeClock } from "./fake-clock.ts";
import { type Fault, faulty, holdBack, holdReply } from "./faulty-driver.ts";

let database: Database;
let bare: Database;
beforeAll(async () => {
  [database, bare] = await Promise.all([createDatabase(), createDatabase({ migrated: false })]);
});
afterAll(() => Promise.all([database.drop(), bare.drop()]));

function scene(driver: Driver, schema = "orchestratum") {
  const clock = createFakeClock();
  const seen: Observation[] = [];
  return { clock, seen, statements: createStatements(driver, schema, clock, (one) => void seen.push(one)) };
}

test("run() answers the rows of a statement by its name, and leaves no timer", async () => {
  const { statements, clock, seen } = scene(postgresJs(database.sql));
  const rows = await statements.run("historyTurn", []);
  expect(rows).toEqual([{ turn_ms: 43_200_000 }]);
  expect(clock.pending).toBe(0);
  expect(seen).toEqual([]);
});

test("run() runs a statement where it is told to", async () => {
  const elsewhere = faulty(postgresJs(database.sql));
  const { statements } = scene(postgresJs(bare.sql));
  await statements.run("historyTurn", [], { db: elsewhere });
  expect(elsewhere.sent).toHaveLength(1);
});

test("run() gives up at its deadline, says so, and drops what is answered later", async () => {
  for (const deadlineMs of [undefined, 500]) {
    const held = holdReply(/keep_succeeded/);
    let answered = false;
    const noted: Fault = {
      after: () => {
        answered = true;
      },
    };
    const { statements, clock, seen } = scene(faulty(postgresJs(database.sql), held, noted));
    const outcome = statements
      .run("historyTurn", [], deadlineMs === undefined ? {} : { deadlineMs })
      .catch((error: unknown) => error);
    await held.arrived;
    await clock.advance((deadlineMs ?? 30_000) - 1);
    expect(seen).toEqual([]);
    await clock.advance(1);
    const error = (await outcome) as DatabaseUnresponsiveError;
    expect(error).toBeInstanceOf(DatabaseUnresponsiveError);
    expect(error.code).toBe("ORCHESTRATUM_DATABASE_UNRESPONSIVE");
    expect(error.message).toBe(
      `Cannot run historyTurn: the database "postgres-js" did not answer within ${deadlineMs ?? 30_000} ms`,
    );
    expect(seen).toEqual([{ type: "database_unresponsive", operation: "historyTurn", afterMs: deadlineMs ?? 30_000 }]);
    held.release();
    await vi.waitFor(() => expect(answered).toBe(true), 20_000);
    expect(clock.pending).toBe(0);
  }
});

test("run() lets a late failure go by unheard", async () => {
  const held = holdBack(/keep_succeeded/);
  let asked = false;
  const fails: Fault = {
    before: () => {
      asked = true;
      throw new Error("late");
    },
  };
  const { statements, clock } = scene(faulty(postgresJs(database.sql), held, fails));
  const outcome = statements.run("historyTurn", []).catch((error: unknown) => error);
  await held.arrived;
  await clock.advance(30_000);
  expect(await outcome).toBeInstanceOf(DatabaseUnresponsiveError);
  // An unhandled rejection would fail the run.
  held.release();
  await vi.waitFor(() => expect(asked).toBe(true), 20_000);
});

test("run() asks the driver to cancel what it gives up", async () => {
  const signals: (AbortSignal | undefined)[] = [];
  const real = postgresJs(database.sql);
  const driver: Driver = {
    ...real,
    query: (_text, _params, options) => {
      signals.push(options?.signal);
      // As a half-open connection: it never answers.
      return new Promise(() => {});
    },
  };
  const { statements, clock } = scene(driver);
  const outcome = statements.run("historyTurn", []).catch((error: unknown) => error);
  expect(signals[0]?.aborted).toBe(false);
  await clock.advance(30_000);
  expect(signals[0]?.aborted).toBe(true);
  expect(await outcome).toBe(signals[0]?.reason);
});

test("run() tells why it was given up, whatever the driver makes of that", async () => {
  const driver: Driver = {
    ...postgresJs(database.sql),
    query: (_text, _params, options) =>
      new Promise((_, reject) => {
        options?.signal?.addEventListener("abort", () => reject(new Error("the connection was closed")));
      }),
  };
  const { statements, clock } = scene(driver);
  const late = statements.run("historyTurn", []).catch((error: unknown) => error);
  await clock.advance(30_000);
  expect(await late).toBeInstanceOf(DatabaseUnresponsiveError);

  const controller = new AbortController();
  const reason = new Error("nobody waits any more");
  const ended = statements.run("historyTurn", [], { controller }).catch((error: unknown) => error);
  controller.abort(reason);
  expect(await ended).toBe(reason);
  expect(clock.pending).toBe(0);
  await expect(statements.run("historyTurn", [], { controller })).rejects.toBe(reason);
});

test("run() passes on what the database refuses, and leaves no timer", async () => {
  const { statements, clock } = scene(postgresJs(database.sql));
  const refused = await statements.run("get", ['["no uuid"]']).catch((error: unknown) => error);
  expect(sqlState(refused)).toBe("22P02");
  expect(isPoison(refused)).toBe(true);
  expect(clock.pending).toBe(0);
});

test("run() says what to do where the schema is missing", async () => {
  const missing = scene(postgresJs(bare.sql));
  const error = (await missing.statements.run("historyTurn", []).catch((e: unknown) => e)) as NotMigratedError;
  expect(error).toBeInstanceOf(NotMigratedError);
  expect(error.code).toBe("ORCHESTRATUM_NOT_MIGRATED");
  expect(error.message).toContain('schema "orchestratum"');
  expect(error.message).toContain("npx orchestratum migrate");
  expect(sqlState(error.cause)).toBe("42P01");
  // Nothing that passes by itself, and not the data's fault.
  expect(isPassing(error)).toBe(false);
  expect(isPoison(error)).toBe(false);

  const elsewhere = scene(postgresJs(database.sql), "other");
  await expect(elsewhere.statements.run("get", ["[]"])).rejects.toThrow(
    'Cannot find what schema "other" must contain: run `await orchestrator.migrate()` or `npx orchestratum migrate --schema other` first, or the schema\'s name is misspelt',
  );
});

test("run() says the same of a schema that is older than this library", async () => {
  await database.sql`drop function orchestratum.next_due`;
  const { statements } = scene(postgresJs(database.sql));
  const error = await statements.run("nextDue", ["[]", "2026-10-01"]).catch((e: unknown) => e);
  expect(error).toBeInstanceOf(NotMigratedError);
});

/** A statement that is sent patiently, by a driver that answers the first ones with these errors, and then never again. */
function patience(...errors: Error[]) {
  const driver: Driver = {
    ...postgresJs(database.sql),
    query: () => {
      const error = errors.shift();
      return error ? Promise.reject(error) : new Promise(() => {});
    },
  };
  const { statements, clock, seen } = scene(driver);
  const report = (one: Observation) => void seen.push(one);
  const tries: [again: boolean, deadlineMs: number][] = [];
  let error: unknown;
  const outcome = patiently("historyTurn", { clock, report }, (...given) => {
    tries.push(given);
    return statements.run("historyTurn", [], { deadlineMs: given[1] });
  }).catch((thrown: unknown) => {
    error = thrown;
  });
  return { clock, seen, tries, outcome, error: () => error };
}

const refusal = () => Object.assign(new Error("connect ECONNREFUSED"), { code: "ECONNREFUSED" });

test("patiently() gives a repeat what is left of ten seconds, and says what was heard before nobody answered", async () => {
  const cause = refusal();
  const { clock, tries, error } = patience(refusal(), cause);
  await clock.advance(9_999);
  expect(error()).toBeUndefined();
  await clock.advance(1);
  expect(error()).toBeInstanceOf(DatabaseUnresponsiveError);
  expect((error() as Error).message).toMatch(/did not answer within 9\d{3} ms; before that: connect ECONNREFUSED$/);
  expect((error() as Error).cause).toBe(cause);
  expect(tries.map(([again]) => again)).toEqual([false, true, true]);
  expect(tries[0]?.[1]).toBe(10_000);
  expect(clock.pending).toBe(0);
});

test("patiently() throws the last error where each was told at once, and tries no more after ten seconds", async () => {
  const errors = Array.from({ length: 100 }, refusal);
  const [...all] = errors;
  const { clock, tries, seen, error } = patience(...all);
  await clock.advance(10_000);
  expect(tries.length).toBeGreaterThan(10);
  expect(error()).toBe(errors[tries.length - 1]);
  expect(seen).toHaveLength(tries.length - 1);
  expect(clock.pending).toBe(0);
});

test("patiently() gives up what nobody answers at all after ten seconds, and at once what does not pass", async () => {
  const silent = patience();
  await silent.clock.advance(10_000);
  expect((silent.error() as Error).message).toMatch(/did not answer within 10000 ms$/);
  expect((silent.error() as Error).cause).toBeUndefined();
  expect(silent.tries).toHaveLength(1);

  const wrong = withCode("22P05");
  const refused = patience(wrong);
  await refused.outcome;
  expect(refused.error()).toBe(wrong);
  expect(refused.clock.pending).toBe(0);
});

const withCode = (code: unknown, errno?: unknown) => Object.assign(new Error("x"), { code, errno });

test("sqlState() finds the server's code wherever a driver puts it, and takes no other for one", () => {
  expect(sqlState(withCode("40P01"))).toBe("40P01");
  expect(sqlState(withCode("OR001"))).toBe("OR001");
  expect(sqlState(withCode("ERR_POSTGRES_SERVER_ERROR", "23505"))).toBe("23505");
  for (const error of [
    withCode("EPIPE", -32),
    withCode("ECONNRESET", -104),
    withCode("CONNECTION_CLOSED"),
    withCode(12345),
    withCode("40p01"),
    withCode(undefined),
    new Error("40P01"),
    "40P01",
    null,
    undefined,
  ]) {
    expect(sqlState(error)).toBeUndefined();
  }
});

test("isPoison() holds for what is in the data, and for nothing else", () => {
  for (const code of ["22001", "22P05", "23502", "23514", "54000"]) expect(isPoison(withCode(code))).toBe(true);
  for (const code of [
    "53100",
    "55P03",
    "57P01",
    "57014",
    "40001",
    "08006",
    "25006",
    "42501",
    "XX000",
    "EPIPE",
    undefined,
  ])
    expect(isPoison(withCode(code))).toBe(false);
  expect(isPoison(null)).toBe(false);
});

test("isPassing() holds for trouble that may be over the next time", () => {
  for (const code of ["08006", "40001", "40P01", "53100", "53300", "55P03", "57014", "57P01", "57P03", "58030"])
    expect(isPassing(withCode(code))).toBe(true);
  for (const code of ["EPIPE", "ECONNREFUSED", "CONNECTION_CLOSED", undefined])
    expect(isPassing(withCode(code))).toBe(true);
  expect(isPassing(new DatabaseUnresponsiveError("x"))).toBe(true);
});

test("isPassing() does not hold for mistakes, which would fail for ever", () => {
  for (const code of ["22P02", "23514", "42501", "42601", "42P01", "OR001", "28P01"])
    expect(isPassing(withCode(code))).toBe(false);
  expect(isPassing(new TypeError("x"))).toBe(false);
  expect(isPassing(new RangeError("x"))).toBe(false);
  expect(isPassing(withCode("ORCHESTRATUM_WOULD_DEADLOCK"))).toBe(false);
});

test("repeatDelayMs() grows to its cap, with full jitter", () => {
  const clock = createFakeClock();
  clock.chance = 1 - Number.EPSILON;
  const longest = [1, 2, 3, 8, 9, 1_000].map((attempt) => Math.round(repeatDelayMs(clock, attempt, 5_000)));
  expect(longest).toEqual([50, 100, 200, 5_000, 5_000, 5_000]);
  clock.chance = 0;
  expect(repeatDelayMs(clock, 9, 5_000)).toBe(0);
});
