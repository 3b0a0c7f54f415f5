/** Records of what happens, as `logTo` hands them on. */
import { PGlite } from "@electric-sql/pglite";
import {
  type CommandId,
  createOrchestrator,
  type Driver,
  defineCommand,
  defineEvent,
  InvalidInputError,
  type LogRecord,
  type LogToOptions,
  logTo,
  type Middleware,
  migrate,
  type Observation,
  PermanentFailure,
  subscribe,
} from "orchestratum";
import { logObservations } from "orchestratum/node";
import { pglite } from "orchestratum/pglite";
import { pino } from "pino";
import * as v from "valibot";
import { afterAll, beforeAll, expect, test, vi } from "vitest";

let instance: PGlite;
let driver: Driver;
beforeAll(async () => {
  instance = await PGlite.create();
  driver = pglite(instance);
  await migrate(driver);
});
afterAll(() => instance.close());

const traceparent = `00-${"a".repeat(32)}-${"b".repeat(16)}-01`;
const command = {
  id: "0199",
  name: "send_email",
  queue: "default",
  fence: 2,
  attempt: 1,
  chain: { correlationId: "c", causationId: "e", actorId: "ada", traceparent, tracestate: undefined },
};
const named = {
  command_id: "0199",
  command_name: "send_email",
  queue: "default",
  fence: 2,
  attempt: 1,
  correlation_id: "c",
  causation_id: "e",
  actor_id: "ada",
  trace_id: "a".repeat(32),
  span_id: "b".repeat(16),
};

function recorded(observations: readonly Observation[], options: LogToOptions = { level: "debug" }): LogRecord[] {
  const records: LogRecord[] = [];
  const observe = logTo((record) => void records.push(record), options);
  for (const observation of observations) observe(observation);
  return records;
}

test("logTo() makes records with stable keys", () => {
  const error = {
    code: "EAWAY",
    message: "The bank is away",
    name: "Error",
    stack: "Error: The bank is away\n    at x",
  };
  expect(
    recorded([
      { type: "command_started", worker: "w", waitedMs: 3, ...command },
      { type: "command_finished", worker: "w", verdict: "retry", durationMs: 5, delayMs: 1_000, error, ...command },
      { type: "lease_lost", worker: "w", reason: "taken", ...command },
      { type: "lease_abandoned", worker: "w", abandonedBy: "killed", ...command },
      { type: "log", worker: "w", level: "info", message: "Sent", fields: { bytes: 7, attempt: 9 }, ...command },
      { type: "claimed", worker: "w", count: 1, durationMs: 2, commands: [command] },
      { type: "database_trouble", operation: "claim", error: new TypeError("gone"), attempt: 2 },
      { type: "duty_finished", duty: "retention", durationMs: 4 },
      { type: "listening", proven: false },
    ]),
  ).toEqual([
    { level: "debug", event: "command_started", message: "Attempt started", worker: "w", waited_ms: 3, ...named },
    {
      level: "warn",
      event: "command_finished",
      message: "Attempt failed and will be tried again",
      worker: "w",
      verdict: "retry",
      duration_ms: 5,
      delay_ms: 1_000,
      error_code: "EAWAY",
      error_name: "Error",
      error_message: "The bank is away",
      ...named,
    },
    { level: "warn", event: "lease_lost", message: "Lease was lost", worker: "w", reason: "taken", ...named },
    {
      level: "warn",
      event: "lease_abandoned",
      message: "Lease ended without a word of its worker",
      worker: "w",
      abandoned_by: "killed",
      ...named,
    },
    {
      level: "info",
      event: "log",
      message: "Sent",
      worker: "w",
      // Apart from the record's own, which no handler can take the place of.
      fields: { bytes: 7, attempt: 9 },
      ...named,
    },
    {
      level: "debug",
      event: "claimed",
      message: "Commands were claimed",
      worker: "w",
      count: 1,
      duration_ms: 2,
      command_ids: ["0199"],
    },
    {
      level: "warn",
      event: "database_trouble",
      message: "Statement failed and will be tried again",
      operation: "claim",
      error_code: "error",
      error_name: "TypeError",
      error_message: "gone",
      statement_attempt: 2,
    },
    { level: "debug", event: "duty_finished", message: "Duty was done", duty: "retention", duration_ms: 4 },
    { level: "warn", event: "listening", message: "Notifications do not arrive: workers poll", proven: false },
  ]);
});

test("logTo() leaves out what is less grave than its level, and the messages of errors where they are not wanted", () => {
  const error = { code: "error", message: "s3cret", name: "Error" };
  const observations: Observation[] = [
    { type: "command_started", worker: "w", waitedMs: 3, ...command },
    { type: "worker_started", worker: "w", queues: ["default"] },
    { type: "command_finished", worker: "w", verdict: "retry", durationMs: 5, error, ...command },
    { type: "internal_error", operation: "claim", error: new Error("s3cret") },
    { type: "log", level: "error", message: "No", fields: { error: new Error("s3cret") }, ...command },
  ];
  const events = (options: LogToOptions) => recorded(observations, options).map(({ event }) => event);
  expect(events({ level: "debug" })).toHaveLength(5);
  expect(events({})).toEqual(["worker_started", "command_finished", "internal_error", "log"]);
  expect(events({ level: "warn" })).toEqual(["command_finished", "internal_error", "log"]);
  expect(events({ level: "error" })).toEqual(["internal_error", "log"]);
  expect(JSON.stringify(recorded(observations, {})).match(/s3cret/g)).toHaveLength(3);
  const without = recorded(observations, { errorMessages: false });
  expect(JSON.stringify(without)).not.toContain("s3cret");
  expect(without.at(-1)?.fields).toEqual({ error: { code: "error", name: "Error" } });
});

test("a name that no handler knows is a warning once a minute, by version, and each time at debug", () => {
  const unknown = (name: string, version: number): Observation => ({
    type: "command_unknown",
    worker: "w",
    version,
    ...{ ...command, name },
  });
  let nowMs = 0;
  const now = vi.spyOn(performance, "now").mockImplementation(() => nowMs);
  try {
    const said: [string | undefined, unknown, string][] = [];
    const observe = logTo((record) => void said.push([record.command_name, record.version, record.level]), {
      level: "debug",
    });
    for (const at of [0, 59_999, 60_000]) {
      nowMs = at;
      for (const observation of [unknown("a", 1), unknown("a", 2), unknown("b", 1)]) observe(observation);
    }
    const each = (level: string) => [["a", 1, level] as const, ["a", 2, level] as const, ["b", 1, level] as const];
    expect(said).toEqual([...each("warn"), ...each("debug"), ...each("warn")]);
    const lines: string[] = [];
    const end = logObservations(
      {
        observe(observer) {
          for (let n = 0; n < 3; n++) observer(unknown("c", 1));
          return () => {};
        },
      },
      { write: (line) => void lines.push(line) },
    );
    end();
    expect(lines).toHaveLength(1);
  } finally {
    now.mockRestore();
  }
});

test("logTo() writes a line of JSON to a console, whatever a handler said", () => {
  const lines: [string, string][] = [];
  const write = (level: string) => (line: string) => void lines.push([level, line]);
  const observe = logTo({ debug: write("debug"), info: write("info"), warn: write("warn"), error: write("error") });
  const cycle: Record<string, unknown> = {};
  cycle.self = cycle;
  observe({ type: "worker_stopped", worker: "w", stuck: 0 });
  observe({ type: "log", level: "warn", message: "Odd", fields: { big: 7n }, ...command });
  observe({ type: "log", level: "error", message: "Odder", fields: cycle, ...command });
  expect(lines.map(([level]) => level)).toEqual(["info", "warn", "error"]);
  const parsed = lines.map(([, line]) => JSON.parse(line) as LogRecord);
  expect(parsed[0]).toMatchObject({ time: expect.stringMatching(/^\d{4}-.*Z$/), event: "worker_stopped", stuck: 0 });
  expect(parsed[1]?.fields).toEqual({ big: "7" });
  expect(parsed[2]).toMatchObject({ message: "Odder", fields: { refused: "They cannot be written as JSON" } });
});

test("logTo() refuses a target that is none, and a level that there is not", () => {
  expect(() => logTo({ info() {} } as never)).toThrow(
    /^Cannot log: target must be a function, or have debug, warn, error, got /,
  );
  expect(() => logTo(undefined as never)).toThrow(TypeError);
  expect(() => logTo(() => {}, { level: "loud" as never })).toThrow(/level must be one of debug, info, warn, error/);
});

test("pino gets fields and a message; a handler's logger writes through it with the command's keys", async () => {
  const lines: Record<string, unknown>[] = [];
  const logger = pino({ level: "debug", base: null }, { write: (line: string) => void lines.push(JSON.parse(line)) });
  const queue = "pino";
  const mail = defineCommand({ name: "mail", queue });
  const receipt = defineCommand({ name: "receipt", queue });
  // What telemetry does: the attempt has a context of its own, and the log names that.
  const own: Middleware = {
    execute: ({ metadata }, next) => next({ ...metadata, traceparent: `00-${"a".repeat(32)}-${"c".repeat(16)}-01` }),
  };
  const orchestrator = createOrchestrator({
    database: driver,
    middleware: [own],
    handlers: [
      mail.handle(({ logger: own, push }) => {
        own.info("Sent", { bytes: 7 });
        push(receipt());
      }),
      receipt.handle(({ logger: own }) => own.warn("Printed")),
    ],
    observe: logTo(logger, { level: "debug" }),
  });
  // Of several queues, the record names the one that it came from.
  const worker = orchestrator.startWorker({ queues: ["empty", queue, "idle"] });
  const metadata = { correlationId: "order-7", actor: { id: "ada", type: "user" }, traceparent };
  const { id } = await orchestrator.push(mail(null, { metadata }));
  await orchestrator.waitFor(id);
  const followed = await orchestrator.list({ parentId: id });
  const child = followed.commands[0]?.id as CommandId;
  await orchestrator.waitFor(child);
  await orchestrator.stop();

  const chain = { correlation_id: "order-7", actor_id: "ada", trace_id: "a".repeat(32), worker: worker.id, queue };
  const about = (event: string) => lines.filter((line) => line.event === event);
  const attempt = { ...chain, attempt: 1, fence: 1, span_id: "c".repeat(16) };
  expect(about("log")).toEqual([
    {
      level: 30,
      time: expect.any(Number),
      msg: "Sent",
      event: "log",
      command_id: id,
      command_name: "mail",
      fields: { bytes: 7 },
      ...attempt,
    },
    {
      level: 40,
      time: expect.any(Number),
      msg: "Printed",
      event: "log",
      command_id: child,
      command_name: "receipt",
      causation_id: id,
      ...attempt,
    },
  ]);
  expect(about("command_finished")).toMatchObject([
    { msg: "Command succeeded", command_id: id, verdict: "succeeded", ...attempt },
    { command_id: child, verdict: "succeeded", ...attempt },
  ]);
  // Before the attempt has begun, the context is still that of the push.
  expect(about("command_started")).toMatchObject([
    { command_id: id, ...chain, span_id: "b".repeat(16), waited_ms: expect.any(Number) },
    { command_id: child },
  ]);
});

test("no record, and no line, has anything of an input, an output, a progress, metadata or what an error carries", async () => {
  const secret = "s3cret-91ab";
  const queue = "secrets";
  const base = { queue, retries: 1, backoff: { initialMs: 1 } };
  const echo = defineCommand({
    ...base,
    name: "echo",
    input: v.object({ secret: v.string() }),
    output: v.object({ secret: v.string() }),
  });
  const wrong = defineCommand({ ...base, name: "wrong", output: v.object({ count: v.number() }) });
  const strict = defineCommand({ ...base, name: "strict", input: v.object({ count: v.number() }) });
  const nests = defineCommand({ ...base, name: "nests" });
  const throws = defineCommand({ ...base, name: "throws" });
  const counted = defineEvent({ topic: "secrets.counted", data: v.object({ count: v.number() }) });
  const told = defineEvent({ topic: "secrets.told", data: v.object({ secret: v.string() }) });
  const kept = defineEvent({ topic: "kept.secrets", data: v.object({ secret: v.string() }) });
  const records: LogRecord[] = [];
  const lines: string[] = [];
  const orchestrator = createOrchestrator({
    database: driver,
    handlers: [
      echo.handle(({ input, progress }) => {
        progress(input);
        return input;
      }),
      wrong.handle(() => ({ count: secret }) as never),
      strict.handle(() => {}),
      // The message of a refused push quotes what was refused.
      nests.handle(({ push }) => void push(strict({ count: secret } as never))),
      throws.handle(
        ({ logger }) => {
          logger.info("It will fail", { cents: 7 });
          throw Object.assign(new PermanentFailure("No", { cause: new Error(secret) }), { data: { secret } });
        },
        { onFailure: () => {} },
      ),
      subscribe({ ...base, name: "counts", to: counted, handler: () => {} }),
      subscribe({ ...base, name: "hears", to: told, handler: ({ event, publish }) => void publish(kept(event.data)) }),
    ],
    observe: logTo((record) => void records.push(record), { level: "debug" }),
  });
  logObservations(orchestrator, { level: "debug", write: (line) => void lines.push(line) });
  // Its subscriptions are stored when it has started.
  await orchestrator.startWorker({ queues: [queue] }).started;
  const metadata = { own: secret, source: secret };
  // Who knows no schema pushes what the handler's refuses.
  const careless = createOrchestrator({ database: driver });
  await careless.push(defineCommand({ name: "strict", queue, retries: 0 })({ count: secret } as never));
  await careless.publish(
    defineEvent({ topic: counted.topic })({ count: secret } as never, { metadata: { own: secret } }),
  );
  await careless.stop();
  await orchestrator.publish(told({ secret }, { metadata: { own: secret } }));
  const reads = { topics: "secrets.#", backoff: { initialMs: 60_000, jitter: "none" } } as const;
  orchestrator.startReader({ ...reads, name: "refuses", events: [counted], handle: () => {} });
  orchestrator.startReader({
    ...reads,
    name: "breaks",
    handle: () => {
      throw Object.assign(new Error("No", { cause: new Error(secret) }), { data: { secret } });
    },
  });
  const commands = [
    echo({ secret }, { metadata }),
    wrong(null, { metadata }),
    nests(null, { metadata }),
    throws(null, { metadata }),
  ] as const;
  const pushed = await orchestrator.push(commands);
  const ended = await orchestrator.waitFor(pushed.map(({ id }): CommandId => id));
  expect(ended.map(({ status }) => status)).toEqual(["succeeded", "failed", "failed", "failed"]);
  await expect(orchestrator.push(strict({ count: secret } as never))).rejects.toThrow(InvalidInputError);
  const codesOf = (event: string) => records.filter((one) => one.event === event).map((one) => one.error_code);
  await vi.waitFor(
    () => {
      expect(codesOf("reader_failed").toSorted()).toEqual(["ORCHESTRATUM_INVALID_EVENT", "error"]);
      expect(codesOf("command_finished")).toContain("ORCHESTRATUM_INVALID_EVENT");
      expect(records.some((one) => one.command_name === "deliver:hears" && one.verdict === "succeeded")).toBe(true);
    },
    { timeout: 20_000 },
  );
  await orchestrator.stop();

  expect(records.length).toBeGreaterThan(10);
  expect(records.filter((record) => JSON.stringify(record).includes(secret))).toEqual([]);
  expect(lines.filter((line) => line.includes(secret))).toEqual([]);
  const codes = new Set(records.flatMap(({ error_code: code }) => code ?? []));
  expect(codes).toContain("invalid_input");
  expect(codes).toContain("invalid_output");
  expect(codes).toContain("ORCHESTRATUM_INVALID_INPUT");
});
