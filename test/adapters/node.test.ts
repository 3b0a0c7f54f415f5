import { EventEmitter } from "node:events";
import { createOrchestrator, defineCommand, type Observation, type Orchestrator } from "orchestratum";
import { logObservations, nodePlatform, runWorker } from "orchestratum/node";
import { postgresJs } from "orchestratum/postgres-js";
import { afterAll, beforeAll, expect, test, vi } from "vitest";
import { signal } from "../conformance.ts";
import { createDatabase, type Database } from "../database.ts";
import { halfOpenProxy } from "../half-open.ts";

let database: Database;
beforeAll(async () => {
  database = await createDatabase();
});
afterAll(() => database.drop());

/** A command whose handler says that it runs, and goes on until it is let go or its signal is aborted. */
function holding() {
  const events = new EventEmitter();
  const hold = defineCommand({ name: `hold_${Math.random().toString(36).slice(2)}` });
  const handler = hold.handle(({ signal }) => {
    events.emit("runs");
    return new Promise<void>((resolve, reject) => {
      events.once("release", resolve);
      signal.addEventListener("abort", () => reject(signal.reason), { once: true });
    });
  });
  const runs = new Promise((resolve) => events.once("runs", resolve));
  return { hold, handler, runs, release: () => events.emit("release") };
}

const count = (name: NodeJS.Signals): number => process.listenerCount(name);

test("runWorker() drains on the first signal, and resolves when running handlers have finished", async () => {
  const { hold, handler, runs, release } = holding();
  const orchestrator = createOrchestrator({ database: postgresJs(database.sql), handlers: [handler] });
  const { id } = await orchestrator.push(hold());
  const running = runWorker(orchestrator, { signals: ["SIGUSR2"] });
  await runs;
  process.kill(process.pid, "SIGUSR2");
  await vi.waitFor(() => expect(orchestrator.isStopped).toBe(true), 20_000);
  expect(orchestrator.isRunning).toBe(true);
  release();
  await running;
  expect(orchestrator.isRunning).toBe(false);
  expect(count("SIGUSR2")).toBe(0);
  expect((await orchestrator.get(id))?.status).toBe("succeeded");
});

test("runWorker() aborts what runs on the second signal, hands it back, and lets go of signals and of the process", async () => {
  const exitAfter = vi.spyOn(nodePlatform, "exitAfter").mockReturnValue();
  const { hold, handler, runs } = holding();
  const orchestrator = createOrchestrator({ database: postgresJs(database.sql), handlers: [handler] });
  const { id } = await orchestrator.push(hold());
  const running = runWorker(orchestrator, { signals: ["SIGUSR2"], graceMs: 600_000 });
  await runs;
  process.kill(process.pid, "SIGUSR2");
  await vi.waitFor(() => expect(orchestrator.isStopped).toBe(true), 20_000);
  process.kill(process.pid, "SIGUSR2");
  await running;
  expect(exitAfter.mock.calls).toEqual([[5_000]]);
  exitAfter.mockRestore();
  expect(count("SIGUSR2")).toBe(0);
  expect(await orchestrator.get(id)).toMatchObject({ status: "pending", attempt: 0 });
});

test("runWorker() resolves when somebody else stops the orchestrator", async () => {
  const { handler } = holding();
  const orchestrator = createOrchestrator({ database: postgresJs(database.sql), handlers: [handler] });
  const running = runWorker(orchestrator);
  const [worker] = orchestrator.workers;
  await worker?.started;
  await orchestrator.stop();
  await running;
  expect(count("SIGTERM")).toBe(0);
});

test("runWorker() throws for options that startWorker refuses, and catches no signal then", async () => {
  const { handler } = holding();
  const orchestrator = createOrchestrator({ database: postgresJs(database.sql), handlers: [handler] });
  await expect(runWorker(orchestrator, { concurrency: 0 })).rejects.toThrow(RangeError);
  expect(count("SIGTERM")).toBe(0);
  await orchestrator.stop();
});

test("runWorker() is alive and not ready while the database does not answer, and says so within two seconds", async () => {
  await using proxy = await halfOpenProxy(database.url);
  const driver = postgresJs(proxy.url, { max: 2 });
  const { handler } = holding();
  const orchestrator = createOrchestrator({ database: driver, handlers: [handler] });
  const listening = signal<number>();
  const http = { port: 0, onListen: ({ port }: { port: number }) => listening.give(port) };
  const running = runWorker(orchestrator, { signals: [], http });
  const url = `http://127.0.0.1:${await listening.got()}/health`;
  await vi.waitFor(async () => expect((await fetch(`${url}/ready`)).status).toBe(200), 20_000);
  proxy.silenceAll();
  const begun = performance.now();
  const [ready, live] = await Promise.all([fetch(`${url}/ready`), fetch(`${url}/live`)]);
  expect([ready.status, live.status]).toEqual([503, 200]);
  expect(performance.now() - begun).toBeLessThan(15_000);
  expect(await ready.json()).toEqual({ status: "database unavailable" });
  await orchestrator.stop({ graceMs: 0 });
  await running;
  await driver.close({ timeoutMs: 0 });
});

/** What is logged of these observations. */
function logged(observations: Observation[], options: { level?: "debug" | "info" | "warn" | "error" } = {}): string[] {
  const lines: string[] = [];
  let observe: (observation: Observation) => void = () => {};
  const source: Pick<Orchestrator, "observe"> = {
    observe(observer) {
      observe = observer;
      return () => {
        observe = () => {};
      };
    },
  };
  const stop = logObservations(source, { ...options, write: (line) => lines.push(line) });
  for (const observation of observations) observe(observation);
  stop();
  for (const observation of observations) observe(observation);
  return lines.map((line) => line.replace(/^\d{4}-\d\d-\d\dT[\d:.]+Z /, ""));
}

const chain = {
  correlationId: "0199",
  ...{ causationId: undefined, actorId: undefined, traceparent: undefined, tracestate: undefined },
};
const command = { id: "0199", name: "send_email", queue: "default", fence: 1, attempt: 1, chain };

test("logObservations() writes a line for each, with the words of the observation", () => {
  expect(
    logged([
      { type: "worker_started", worker: "w", queues: ["default", "two words"] },
      {
        type: "command_finished",
        worker: "w",
        verdict: "failed",
        durationMs: 1.23456,
        error: { code: "error", message: 'a "b"' },
        ...command,
      },
      { type: "database_trouble", operation: "claim", error: new Error("gone\naway"), attempt: 2 },
      { type: "event_loop_blocked", worker: "w", blockedMs: 900, commands: [command] },
      { type: "log", level: "info", message: "hello", fields: { a: 1 }, ...command },
    ]),
  ).toEqual([
    'info worker_started worker=w queues="default,two words"',
    'error command_finished worker=w verdict=failed durationMs=1.235 error="error: a \\"b\\"" id=0199 name=send_email queue=default fence=1 attempt=1',
    'warn database_trouble operation=claim error="gone\\naway" attempt=2',
    "warn event_loop_blocked worker=w blockedMs=900 commands=0199",
    'info log message=hello fields="{\\"a\\":1}" id=0199 name=send_email queue=default fence=1 attempt=1',
  ]);
});

test("logObservations() leaves out what is less grave than its level", () => {
  const observations: Observation[] = [
    { type: "command_started", worker: "w", waitedMs: 1, ...command },
    { type: "worker_stopped", worker: "w", stuck: 0 },
    { type: "listening", proven: false },
    { type: "internal_error", operation: "claim", error: new Error("a") },
  ];
  const types = (level: "debug" | "info" | "warn" | "error") =>
    logged(observations, { level }).map((line) => line.split(" ")[1]);
  expect(types("debug")).toEqual(["command_started", "worker_stopped", "listening", "internal_error"]);
  expect(types("info")).toEqual(["worker_stopped", "listening", "internal_error"]);
  expect(types("warn")).toEqual(["listening", "internal_error"]);
  expect(types("error")).toEqual(["internal_error"]);
  expect(() => logged([], { level: "loud" as never })).toThrow(TypeError);
});

test("logObservations() shortens what is long", () => {
  const [line] = logged([{ type: "log", level: "info", message: "x".repeat(10_000), ...command }]);
  expect(line?.length).toBeLessThan(1_000);
});
