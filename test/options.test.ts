import { afterEach, expect, test } from "vitest";
import {
  callEndpoint,
  createOrchestrator,
  type Driver,
  defineCommand,
  defineCommands,
  defineEvent,
  defineEvents,
  examine,
  logTo,
  migrate,
  migrateDown,
  migrationScript,
  migrationState,
  type Orchestrator,
  receiveCall,
  subscribe,
} from "../src/index.ts";
import { encodeAppends } from "../src/publish.ts";

/** What is refused is refused before any I/O. */
const asked: string[] = [];
const noDatabase: Driver = {
  name: "none",
  async query(text) {
    asked.push(text);
    return [];
  },
  async script(text) {
    asked.push(text);
  },
};

afterEach(() => void asked.splice(0));

const id = "0197a000-0000-7000-8000-000000000001";
const ids = [id];
const c = defineCommand({ name: "c" });
const e = defineEvent({ topic: "e" });
const reader = { name: "r", handle: () => {} };
const subscription = subscribe({ name: "s", to: "#", handler: () => {} });
const refused = (call: (orchestrator: any) => unknown, message: string): [string, (o: any) => unknown] => [
  message,
  call,
];

/** Every call that takes options, with what it says where it cannot be done. */
const entries: [call: (orchestrator: Orchestrator, options: any) => unknown, attempt: string][] = [
  [(_, options) => createOrchestrator(options), "Cannot create orchestrator"],
  [(_, options) => c(1, options), 'Cannot make command "c"'],
  [(_, options) => c.handle(() => {}, options), 'Cannot handle command "c"'],
  [(_, options) => e(1, options), 'Cannot make event "e"'],
  [(_, options) => migrate(noDatabase, options), "Cannot migrate"],
  [(_, options) => migrateDown(noDatabase, options), "Cannot undo migration"],
  [(_, options) => migrationState(noDatabase, options), "Cannot read migrations"],
  [(_, options) => migrationScript(options), "Cannot print migrations"],
  [(_, options) => examine(noDatabase, options), "Cannot examine the database"],
  [(_, options) => examine(noDatabase, { limits: options }), "Cannot examine the database by these limits"],
  [(_, options) => logTo(() => {}, options), "Cannot log"],
  [(_, options) => callEndpoint(options), "Cannot call endpoint"],
  [(_, options) => receiveCall(options), "Cannot receive calls"],
  [(o, options) => o.push(c(1), options), "Cannot push"],
  [(o, options) => o.push([], options), "Cannot push"],
  [(o, options) => o.waitFor(id, options), "Cannot wait"],
  [(o, options) => o.waitFor(c, id, options), "Cannot wait"],
  [(o, options) => o.waitFor(ids, options), "Cannot wait"],
  [(o, options) => o.waitFor([], options), "Cannot wait"],
  [(o, options) => o.counts(options), "Cannot count commands"],
  [(o, options) => o.startWorker(options), "Cannot start worker"],
  [(o, options) => o.tick(options), "Cannot tick"],
  [(o, options) => o.stop(options), "Cannot stop"],
  [(o, options) => o.stats(options), "Cannot read statistics"],
  [(o, options) => o.queues(options), "Cannot list queues"],
  [(o, options) => o.list({}, options), "Cannot list commands"],
  [(o, options) => o.progress(id, options), "Cannot watch command"],
  [(o, options) => o.cancel(id, options), "Cannot cancel"],
  [(o, options) => o.cancel(ids, options), "Cannot cancel"],
  [(o, options) => o.cancel({}, options), "Cannot cancel"],
  [(o, options) => o.retry(id, options), "Cannot retry"],
  [(o, options) => o.retry(ids, options), "Cannot retry"],
  [(o, options) => o.retry({}, options), "Cannot retry"],
  [(o, options) => o.edit(id, options), "Cannot edit"],
  [(o, options) => o.reschedule(id, new Date(), options), "Cannot reschedule"],
  [(o, options) => o.reprioritise(id, 1, options), "Cannot reprioritise"],
  [(o, options) => o.erase(id, options), "Cannot erase"],
  [(o, options) => o.pauseQueue("a", options), "Cannot pause queue"],
  [(o, options) => o.resumeQueue("a", options), "Cannot resume queue"],
  [(o, options) => o.pauseName("a", options), 'Cannot pause "a"'],
  [(o, options) => o.resumeName("a", options), 'Cannot resume "a"'],
  [(o, options) => o.acts(options), "Cannot list acts"],
  [(o, options) => o.execute(c(1), options), "Cannot execute"],
  [(o, options) => o.publish(e(1), options), "Cannot publish"],
  [(o, options) => o.append("s", e(1), options), 'Cannot append to stream "s"'],
  [(o, options) => o.addSubscription(subscription, options), 'Cannot add subscription "s"'],
  [(o, options) => o.removeSubscription("s", options), 'Cannot remove subscription "s"'],
  [(o, options) => o.deadLetters({}, options), "Cannot list dead letters"],
  [(o, options) => o.retryDeadLetters(id, options), "Cannot retry dead letters"],
  [(o, options) => o.retryDeadLetters({}, options), "Cannot retry dead letters"],
  [(o, options) => o.dropDeadLetters(ids, options), "Cannot drop dead letters"],
  [(o, options) => o.dropDeadLetters({}, options), "Cannot drop dead letters"],
  [(o, options) => o.startReader(options), "Cannot start reader"],
  [(o, options) => o.readAll(options), "Cannot read events"],
  [(o, options) => o.readStream("s", options), "Cannot read stream"],
  [(o, options) => o.rebuild("r", options), "Cannot rebuild reader"],
];

const handlers = [c.handle(() => {})];
const orchestrator = createOrchestrator({ database: noDatabase, handlers });
const within = createOrchestrator({
  database: noDatabase,
  handlers,
  middleware: [{ push: (_, next) => next(), publish: (_, next) => next() }],
});

/** A call that throws at once, and one that rejects, alike. */
const messageOf = async (call: () => unknown): Promise<string> => {
  const error: unknown = await Promise.resolve()
    .then(call)
    .then(
      () => undefined,
      (thrown: unknown) => thrown,
    );
  expect(error).toBeInstanceOf(TypeError);
  return (error as Error).message;
};

test.each(entries.map(([call, attempt]) => [attempt, call] as const))(
  "%s: options that are no object, or have a key that is none, are refused by name",
  async (attempt, call) => {
    for (const one of [orchestrator, within]) {
      for (const [options, got] of [
        [null, "null"],
        [5, "5"],
        [[], "an array"],
        [() => {}, "a function"],
      ]) {
        expect(await messageOf(() => call(one, options))).toMatch(
          new RegExp(`^${attempt}: options must be an object.*, got ${got}$`),
        );
      }
      expect(await messageOf(() => call(one, { slip: 1 }))).toMatch(
        new RegExp(`^${attempt}: there is no option "slip", only \\w+`),
      );
    }
    expect(asked).toEqual([]);
  },
);

const db = "db must be an open transaction, as postgresJs(tx) makes it, got 5";
const signal = "signal must be an AbortSignal, got 5";

test.each([
  refused(
    () => createOrchestrator(undefined as never),
    "Cannot create orchestrator: options must be an object, got undefined",
  ),
  refused(
    () => defineCommand(undefined as never),
    "Cannot define command: a definition must be an object, got undefined",
  ),
  refused(
    () => defineCommands({ a: null } as never),
    "Cannot define command: a definition must be an object, got null",
  ),
  refused(
    () => defineCommands(undefined as never),
    "Cannot define commands: definitions must be an object, got undefined",
  ),
  refused(() => defineEvents("e", null as never), "Cannot define events: definitions must be an object, got null"),
  refused(
    () => defineCommand({ name: "c", backoff: { intialMs: 5 } as never }),
    'Cannot define command "c": backoff must have no keys but initialMs, factor, maxMs, jitter, got "intialMs"',
  ),
  refused(
    () => createOrchestrator({ database: noDatabase, observe: 5 as never }),
    "Cannot create orchestrator: observe must be a function, got 5",
  ),
  refused(
    () => createOrchestrator({ database: noDatabase, commands: 5 as never }),
    "Cannot create orchestrator: commands must be a list of contracts, or a module's exports, got 5",
  ),
  refused(
    () => createOrchestrator({ database: noDatabase, handlers: null as never }),
    "Cannot register handlers: a list of them, or a module's exports, is wanted, got null",
  ),
  refused((o) => o.push(c(1), { id }), 'Cannot push command "c": an id belongs to one command'),
  refused((o) => o.push(c(1), { db: 5 }), `Cannot push: ${db}`),
  refused((o) => o.publish(e(1), { db: 5 }), `Cannot publish: ${db}`),
  refused((o) => o.waitFor(id, { signal: 5 }), `Cannot wait: ${signal}`),
  refused((o) => o.waitFor(ids, { signal: 5 }), `Cannot wait: ${signal}`),
  refused((o) => o.progress(id, { signal: 5 }), `Cannot watch command: ${signal}`),
  refused((o) => o.execute(c(1), { signal: 5 }), `Cannot execute: ${signal}`),
  refused((o) => o.retryDeadLetters({}, { signal: 5 }), `Cannot retry dead letters: ${signal}`),
  refused(
    () => encodeAppends("Cannot finish", [{ stream: "s", events: e(1), slip: 1 }], { inherited: {}, parentId: id }),
    'Cannot append to stream "s": there is no option "slip", only stream, events, expectedVersion',
  ),
  refused((o) => o.counts({ finished: "no" }), 'Cannot count commands: finished must be true or false, got "no"'),
  refused((o) => o.counts({ hooks: "yes" }), 'Cannot count commands: hooks must be true or false, got "yes"'),
  refused((o) => o.queues({ hooks: "yes" }), 'Cannot list queues: hooks must be true or false, got "yes"'),
  refused((o) => o.stats({ hooks: "yes" }), 'Cannot read statistics: hooks must be true or false, got "yes"'),
  refused((o) => o.observe(5), "Cannot observe: observer must be a function, got 5"),
  refused((o) => o.wake("default"), 'Cannot wake queues: queues must be a list of names, got "default"'),
  refused((o) => o.startWorker({ queues: "mail" }), 'Cannot start worker: queues must be a list of names, got "mail"'),
  refused((o) => o.tick({ queues: "mail" }), 'Cannot tick: queues must be a list of names, got "mail"'),
  refused((o) => o.cancel({}, { dryRun: "yes" }), 'Cannot cancel: dryRun must be true or false, got "yes"'),
  refused((o) => o.retry({}, { onProgress: 5 }), "Cannot retry: onProgress must be a function, got 5"),
  ...[(o: any, options: object) => o.cancel(id, options), (o: any, options: object) => o.cancel(ids, options)].flatMap(
    (call) => [
      refused((o) => call(o, { dryRun: true }), "Cannot cancel: dryRun goes with a filter"),
      refused((o) => call(o, { onProgress() {} }), "Cannot cancel: onProgress goes with a filter"),
    ],
  ),
  refused((o) => o.retry(id, { dryRun: true }), "Cannot retry: dryRun goes with a filter"),
  refused((o) => o.retryDeadLetters(ids, { dryRun: true }), "Cannot retry dead letters: dryRun goes with a filter"),
  refused((o) => o.dropDeadLetters(id, { dryRun: false }), "Cannot drop dead letters: dryRun goes with a filter"),
  refused(
    (o) => o.startReader(undefined),
    "Cannot start reader: options must be an object with a name and a handle, got undefined",
  ),
  refused(
    (o) => o.startReader({ ...reader, backoff: { max: 5 } }),
    "Cannot start reader: backoff must have no keys but ",
  ),
])("%s", async (message, call) => {
  expect(await messageOf(() => call(orchestrator))).toContain(message);
  expect(asked).toEqual([]);
});

test("what is undefined counts as not said", async () => {
  const none = { by: undefined, dryRun: undefined, onProgress: undefined };
  await orchestrator.cancel(ids as never, none);
  await orchestrator.push([], { db: undefined, metadata: undefined });
  expect(asked.length).toBe(1);
});
