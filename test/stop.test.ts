/**
 * After `stop()` nothing goes on, whatever the database does meanwhile: no timer waits, no statement is under way, and
 * nobody listens. With none of these, nothing can ever follow.
 */
import { expect, test, vi } from "vitest";
import { postgresJs } from "../adapters/postgres-js.ts";
import { type Clock, systemClock, type Timer } from "../src/clock.ts";
import { createOrchestrator, type Driver, defineCommand } from "../src/index.ts";
import { createDatabase } from "./database.ts";

const job = defineCommand({ name: "job", retries: 0 });

/** The platform's clock, of which it is known how many timers wait. */
function countingClock(): Clock & { readonly pending: number } {
  const timers = new Set<Timer>();
  return {
    ...systemClock,
    get pending() {
      return timers.size;
    },
    after(ms, callback) {
      const timer = systemClock.after(ms, () => {
        timers.delete(own);
        callback();
      });
      const own: Timer = {
        cancel() {
          timers.delete(own);
          timer.cancel();
        },
      };
      timers.add(own);
      return own;
    },
  };
}

type Fault = (text: string) => Promise<void> | undefined;

/** Knows what is under way, and fails or holds what a test says. */
function watched(driver: Required<Driver>) {
  const state = {
    statements: 0,
    listeners: 0,
    faults: 0,
    seen: new Set<string>(),
    fault: undefined as Fault | undefined,
  };
  const database: Required<Driver> = {
    ...driver,
    async query(text, params, options) {
      state.statements++;
      for (const [, name] of text.matchAll(/orchestratum\.(\w+)/g)) state.seen.add(name as string);
      try {
        const fault = state.fault?.(text);
        if (fault) {
          state.faults++;
          const { signal } = options ?? {};
          const aborted = new Promise<never>((_, reject) => {
            signal?.addEventListener("abort", () => reject(signal.reason), { once: true });
          });
          await Promise.race([fault, aborted]);
        }
        return await driver.query(text, params, options);
      } finally {
        state.statements--;
      }
    },
    async listen(...args) {
      const listener = await driver.listen(...args);
      state.listeners++;
      return {
        async close() {
          await listener.close();
          state.listeners--;
        },
      };
    },
  };
  return { database, state };
}

const refused = () => Promise.reject(Object.assign(new Error("no connection"), { code: "ECONNREFUSED" }));
const silent = () => new Promise<void>(() => {});
const when =
  (pattern: RegExp, answer: () => Promise<void>): Fault =>
  (text) =>
    pattern.test(text) ? answer() : undefined;

/** Each with whether the handler is still to run when it is first met. */
const troubles: [string, Fault | undefined, boolean][] = [
  ["nothing is wrong", undefined, false],
  ["no statement is answered", silent, true],
  ["every statement is refused", refused, true],
  ["no outcome is taken", when(/\.finish\(/, refused), false],
  ["no outcome is answered", when(/\.finish\(/, silent), false],
  ["no heartbeat is answered", when(/\.heartbeat\(/, silent), true],
  ["no claim is answered", when(/\.claim\(/, silent), true],
];

test.each(troubles)(
  "stop() leaves no timer, no statement and no listener behind where %s",
  { timeout: 60_000 },
  async (_, fault, whileItRuns) => {
    await using database = await createDatabase({ max: 8 });
    const { database: driver, state } = watched(postgresJs(database.sql));
    const clock = countingClock();
    let end = (): void => {};
    const held = new Promise<void>((resolve) => {
      end = resolve;
    });
    let note = (): void => {};
    const orchestrator = createOrchestrator({
      database: driver,
      clock,
      handlers: [
        job.handle(({ progress }) => {
          // A heartbeat goes with it: without, the first comes after a third of a lease.
          note = () => progress(1);
          note();
          return held;
        }),
      ],
    });
    await orchestrator.startWorker({ pollIntervalMs: 50 }).started;
    const { id } = await orchestrator.push(job());
    const waiting = orchestrator.waitFor(id).then(
      () => "ended",
      (error: { code?: string }) => error.code,
    );
    await vi.waitFor(
      () => expect([...state.seen]).toEqual(expect.arrayContaining(["heartbeat", "claim", "duty"])),
      20_000,
    );
    state.fault = fault;
    note();
    if (!whileItRuns) end();
    if (fault) await vi.waitFor(() => expect(state.faults).toBeGreaterThan(0), 20_000);
    end();
    await orchestrator.stop({ graceMs: 0 });
    expect({ timers: clock.pending, statements: state.statements, listeners: state.listeners }).toEqual({
      timers: 0,
      statements: 0,
      listeners: 0,
    });
    expect(["ended", "ORCHESTRATUM_STOPPED"]).toContain(await waiting);
  },
);
