import { afterAll, afterEach, beforeAll, expect, test, vi } from "vitest";
import { postgresJs } from "../adapters/postgres-js.ts";
import type { Clock } from "../src/clock.ts";
import { createDatabase as createStatements } from "../src/database.ts";
import { defineCommand } from "../src/define-command.ts";
import type { Driver } from "../src/driver.ts";
import { type EncodedCommand, encodeCommand } from "../src/encode-command.ts";
import { createHints, type Hints } from "../src/hints.ts";
import { formatMicros, parseMicros } from "../src/marks.ts";
import type { Observation } from "../src/observation.ts";
import { createPusher } from "../src/push.ts";
import { createDatabase, type Database } from "./database.ts";
import { createFakeClock, type FakeClock } from "./fake-clock.ts";
import { type Fault, type FaultyDriver, failWhile, faulty, holdBack, notify } from "./faulty-driver.ts";

let database: Database;
beforeAll(async () => {
  database = await createDatabase();
});
afterAll(() => database.drop());

/** Not within the second that vi.waitFor() has by itself: what is waited for may be a reply of the database. */
const soon = <T>(look: () => T | Promise<T>): Promise<T> => vi.waitFor(look, 20_000);

const open: { hints: Hints; clock: FakeClock }[] = [];
afterEach(async () => {
  for (const { hints, clock } of open.splice(0)) {
    // What still waits for its next try waits by this clock.
    let closed = false;
    const closing = hints.close().finally(() => {
      closed = true;
    });
    while (!closed) await clock.advance(50);
    await closing;
  }
});

const looks = /pg_xact_status/;
const note = defineCommand({ name: "note" });
const encoded = (queue: string) => encodeCommand(note(undefined, { queue })) as EncodedCommand;

interface Scene {
  readonly hints: Hints;
  readonly clock: FakeClock;
  readonly driver: FaultyDriver;
  readonly seen: Observation[];
  /** What a receiver is told, as `due <queue> <ms>`, `cancel <id>` and so on. */
  readonly told: string[];
  /** The payloads that were sent, those of probes left out. */
  payloads(): string[];
  push(queues: readonly string[], db?: Parameters<ReturnType<typeof createPusher>["push"]>[1]): Promise<void>;
}

function scene(faults: readonly Fault[] = [], listen?: Driver["listen"]): Scene {
  const clock = createFakeClock();
  const seen: Observation[] = [];
  const report = (observation: Observation) => void seen.push(observation);
  const driver: FaultyDriver = { ...faulty(postgresJs(database.sql), ...faults), ...(listen ? { listen } : {}) };
  const statements = createStatements(driver, "orchestratum", clock, report);
  const hints = createHints(statements, clock, report);
  open.push({ hints, clock });
  const pusher = createPusher(statements, clock as Clock, hints, report);
  return {
    hints,
    clock,
    driver,
    seen,
    told: [],
    payloads: () =>
      driver.sent
        .filter(({ text }) => notify.test(text))
        .flatMap(({ params }) => JSON.parse(params[1] as string) as string[])
        .filter((payload) => !payload.startsWith("n ")),
    push: (queues, db) => pusher.push(queues.map(encoded), db),
  };
}

/** Listens as a worker does. */
function receive({ hints, told }: Scene): () => void {
  return hints.receive({
    due: (queue, fromMicros) => void told.push(`due ${queue} ${fromMicros / 1000}`),
    cancel: (id) => void told.push(`cancel ${id}`),
    finished: (id) => void told.push(`finished ${id}`),
    reconnected: () => void told.push("reconnected"),
  });
}

const ms = 1_790_000_000_000;
const due = (queue: string, fromMs: number) => ({ queue, available_at: formatMicros(fromMs * 1000).replace("T", " ") });

test("due() sends the first hint of a queue at once, and the earliest of those that follow within 5 ms after that", async () => {
  const { hints, clock, payloads } = scene();
  hints.due([due("a", ms + 50)]);
  await soon(() => expect(payloads()).toEqual([`q a ${ms + 50}`]));
  hints.due([due("a", ms + 70)]);
  hints.due([due("a", ms + 60)]);
  hints.due([due("a", ms + 80)]);
  await clock.advance(4);
  expect(payloads()).toHaveLength(1);
  await clock.advance(1);
  await soon(() => expect(payloads()).toEqual([`q a ${ms + 50}`, `q a ${ms + 60}`]));
});

test("due() holds the trailing hint's window open as well, and ends when nothing came in it", async () => {
  const { hints, clock, payloads } = scene();
  for (const from of [1, 2]) hints.due([due("a", ms + from)]);
  await clock.advance(5);
  hints.due([due("a", ms + 3)]);
  await clock.advance(4);
  await soon(() => expect(payloads()).toEqual([`q a ${ms + 1}`, `q a ${ms + 2}`]));
  await clock.advance(6);
  await soon(() => expect(payloads()).toHaveLength(3));
  await clock.advance(20);
  expect(payloads()).toHaveLength(3);
  hints.due([due("a", ms + 4)]);
  await soon(() => expect(payloads()).toEqual([1, 2, 3, 4].map((from) => `q a ${ms + from}`)));
});

test("due() holds together the hints of one queue, not of different ones", async () => {
  const { hints, payloads } = scene();
  hints.due([due("a", ms), due("b", ms)]);
  hints.wake(["c"]);
  await soon(() => expect(payloads()).toEqual([`q a ${ms}`, `q b ${ms}`, "q c 0"]));
});

test("due() rounds down, and tells of nothing that is parked", async () => {
  const { hints, payloads } = scene();
  hints.due([
    { queue: "a", available_at: "2026-10-01 12:00:00.000999+00" },
    { queue: "b", available_at: "infinity" },
  ]);
  await soon(() => expect(payloads()).toEqual([`q a ${parseMicros("2026-10-01 12:00:00+00") / 1000}`]));
});

test("hints reach receivers of this process directly, without the database", () => {
  const one = scene([failWhile(/./, () => true)]);
  receive(one);
  one.hints.due([due("a", ms)]);
  one.hints.wake(["b"]);
  one.hints.cancel("id");
  one.hints.finished("id");
  expect(one.told).toEqual([`due a ${ms}`, "due b 0", "cancel id", "finished id"]);
});

test("hints reach receivers of other processes", async () => {
  const [one, other] = [scene(), scene()];
  receive(other);
  await soon(() => expect(other.hints.proven).toBe(true));
  one.hints.due([due("a", ms)]);
  one.hints.cancel("0197-c");
  one.hints.finished("0197-f");
  await soon(() => expect(other.told.slice(1)).toEqual([`due a ${ms}`, "cancel 0197-c", "finished 0197-f"]));
});

test("a receiver that throws is reported, and keeps no other from being told", () => {
  const one = scene();
  one.hints.receive({
    due: () => {
      throw new Error("broken");
    },
  });
  const stop = receive(one);
  one.hints.wake(["a"]);
  expect(one.told).toEqual(["due a 0"]);
  expect(one.seen).toContainEqual(expect.objectContaining({ type: "internal_error", operation: "hint" }));
  stop();
  one.hints.wake(["b"]);
  expect(one.told).toEqual(["due a 0"]);
});

test("a payload that nobody could have meant does no harm", async () => {
  const one = scene();
  receive(one);
  await soon(() => expect(one.hints.proven).toBe(true));
  const odd = [
    "",
    "q",
    "x y",
    "q a abc",
    "q a NaN",
    "q a -1",
    "q a -1e300",
    "q a 1e300",
    "q a 1.5",
    "c",
    "f",
    "n other",
  ];
  for (const payload of odd) await database.sql.notify("orchestratum", payload);
  await database.sql.notify("orchestratum", "c last");
  await soon(() => expect(one.told).toContain("cancel last"));
  const times = one.told.filter((line) => line.startsWith("due a")).map((line) => Number(line.split(" ")[2]));
  // Each of them is one that a mark can be moved to, and that the database reads.
  for (const time of times) expect(() => new Date(time).toISOString()).not.toThrow();
  for (const time of times) expect(time).toBeGreaterThanOrEqual(0);
  expect(one.hints.proven).toBe(true);
});

test("NOTIFY is a statement of its own, after what it tells of has committed", async () => {
  let committed = 0;
  const one = scene([
    {
      async before(text, params) {
        if (!notify.test(text)) return;
        const [payload] = JSON.parse(params[1] as string) as string[];
        // Read from a connection of the test's own.
        const [row] = await database.sql`
          select count(*)::int as count from orchestratum.command where queue = ${String(payload?.split(" ")[1])}`;
        committed = row?.count;
      },
    },
  ]);
  await one.push(["alone", "alone"]);
  await soon(() => expect(one.payloads()).toHaveLength(1));
  await soon(() => expect(committed).toBe(2));
  for (const { text } of one.driver.sent)
    expect(notify.test(text) && /insert|update|push_batch/.test(text)).toBe(false);
  const [push] = await database.sql`select pg_get_functiondef('orchestratum.push_batch'::regproc) as text`;
  expect(push?.text).not.toMatch(/notify/i);
});

test("a hint that cannot be sent is reported and forgotten, and the next one goes out", async () => {
  let down = true;
  const one = scene([failWhile(notify, () => down)]);
  one.hints.wake(["a"]);
  await soon(() =>
    expect(one.seen).toContainEqual(expect.objectContaining({ type: "database_trouble", operation: "notify" })),
  );
  down = false;
  one.hints.wake(["b"]);
  await one.clock.advance(100);
  await soon(() => expect(one.payloads()).toEqual(["q a 0", "q b 0"]));
});

/** Counts the look-ups that were answered, and lets the library see the answer of the last. */
function answers(clock: () => FakeClock): Fault & { count: number; toBe(count: number): Promise<void> } {
  const fault = {
    count: 0,
    after(text: string) {
      if (looks.test(text)) fault.count++;
    },
    async toBe(count: number) {
      await soon(() => expect(fault.count).toBe(count));
      await clock().advance(0);
    },
  };
  return fault;
}

test("a push in the caller's transaction is hinted at after its commit", async () => {
  const answered = answers(() => one.clock);
  const one = scene([answered]);
  receive(one);
  await database.sql.begin(async (tx) => {
    await one.push(["inside"], postgresJs(tx));
    await one.clock.advance(5);
    await answered.toBe(1);
    await one.clock.advance(10);
    await answered.toBe(2);
    expect(one.told.filter((line) => line.startsWith("due"))).toEqual([]);
    expect(one.payloads()).toEqual([]);
  });
  await one.clock.advance(20);
  await answered.toBe(3);
  await soon(() => expect(one.payloads()).toEqual([expect.stringMatching(/^q inside \d+$/)]));
  expect(one.told).toContainEqual(expect.stringMatching(/^due inside \d+$/));
  // And is then watched no longer.
  await one.clock.advance(10_000);
  expect(one.driver.count(looks)).toBe(3);
});

test("a push in a transaction that rolls back is not hinted at", async () => {
  const answered = answers(() => one.clock);
  const one = scene([answered]);
  receive(one);
  const rolledBack = database.sql.begin(async (tx) => {
    await one.push(["undone"], postgresJs(tx));
    throw new Error("undo");
  });
  await expect(rolledBack).rejects.toThrow("undo");
  await one.clock.advance(5);
  await answered.toBe(1);
  await one.clock.advance(10_000);
  expect(one.driver.count(looks)).toBe(1);
  expect(one.payloads()).toEqual([]);
  expect(one.told.filter((line) => line.startsWith("due"))).toEqual([]);
});

test("a long transaction is looked at after 5, 10, 20 … ms, and then once a second", async () => {
  const answered = answers(() => one.clock);
  const one = scene([answered]);
  await database.sql.begin(async (tx) => {
    await one.push(["long"], postgresJs(tx));
    for (const [done, wait] of [5, 10, 20, 40, 80, 160, 320, 640, 1_000, 1_000, 1_000].entries()) {
      await one.clock.advance(wait - 1);
      expect(one.driver.count(looks)).toBe(done);
      await one.clock.advance(1);
      await answered.toBe(done + 1);
    }
  });
  await one.clock.advance(1_000);
  await answered.toBe(12);
  await soon(() => expect(one.payloads()).toHaveLength(1));
});

test("transactions that are open at once are looked at by one query", async () => {
  const answered = answers(() => one.clock);
  const one = scene([answered]);
  await database.sql.begin(async (first) => {
    await one.push(["first"], postgresJs(first));
    await one.push(["first_too"], postgresJs(first));
    await database.sql.begin(async (second) => {
      await one.push(["second"], postgresJs(second));
      await one.clock.advance(5);
      await answered.toBe(1);
      const [look] = one.driver.sent.filter(({ text }) => looks.test(text));
      expect(JSON.parse(look?.params[0] as string)).toHaveLength(2);
    });
    // The one that has committed is told of while the other is still open.
    await one.clock.advance(10);
    await answered.toBe(2);
    await soon(() => expect(one.payloads()).toEqual([expect.stringMatching(/^q second /)]));
    await one.clock.advance(20);
    await answered.toBe(3);
    const [, , look] = one.driver.sent.filter(({ text }) => looks.test(text));
    expect(JSON.parse(look?.params[0] as string)).toHaveLength(1);
  });
});

test("a look-up that fails is made again, and the transaction is not forgotten", async () => {
  let down = true;
  const one = scene([failWhile(looks, () => down)]);
  await database.sql.begin((tx) => one.push(["later"], postgresJs(tx)));
  await one.clock.advance(5);
  await soon(() => expect(one.seen).toContainEqual(expect.objectContaining({ operation: "lookAtTransactions" })));
  down = false;
  await one.clock.advance(1_000);
  await soon(() => expect(one.payloads()).toEqual([expect.stringMatching(/^q later /)]));
});

test("the id of a transaction from the future, as after a failover, is no error and hints at nothing", async () => {
  const answered = answers(() => one.clock);
  const one = scene([answered]);
  one.hints.dueAfter("4611686018427387904", [due("a", ms)]);
  await one.clock.advance(5);
  await answered.toBe(1);
  expect(one.seen).toEqual([]);
  expect(one.payloads()).toEqual([]);
});

test("receive() listens, and a probe proves that notifications arrive", async () => {
  const one = scene();
  expect(one.hints.proven).toBe(false);
  receive(one);
  await soon(() => expect(one.hints.proven).toBe(true));
  expect(one.told).toEqual(["reconnected"]);
  expect(one.seen).toEqual([
    { type: "notification_heard", lagMs: 0 },
    { type: "listening", proven: true },
  ]);
  // Nothing is left that would take it back.
  await one.clock.advance(60_000);
  expect(one.hints.proven).toBe(true);
});

test("probe() asks at most every 15 s", async () => {
  const one = scene();
  receive(one);
  await soon(() => expect(one.hints.proven).toBe(true));
  const probes = () => one.driver.count(notify);
  expect(probes()).toBe(1);
  await one.clock.advance(14_999);
  one.hints.probe();
  await one.clock.advance(0);
  expect(probes()).toBe(1);
  await one.clock.advance(1);
  one.hints.probe();
  await soon(() => expect(probes()).toBe(2));
});

test("notifications that do not arrive are not proven: as behind a transaction pooler, where LISTEN succeeds", async () => {
  const one = scene([], async (_channel, _onNotify, onListen) => {
    onListen();
    return { close: async () => {} };
  });
  receive(one);
  await soon(() => expect(one.driver.count(notify)).toBe(1));
  await one.clock.advance(1_999);
  expect(one.seen).toEqual([]);
  await one.clock.advance(1);
  expect(one.hints.proven).toBe(false);
  expect(one.seen).toEqual([{ type: "listening", proven: false }]);
  // It is said once, however often it is tried again.
  await one.clock.advance(60_000);
  expect(one.seen.filter(({ type }) => type === "listening")).toHaveLength(1);
});

test("a listener that is silent is closed, and another one takes its place", async () => {
  let opened = 0;
  let closed = 0;
  const real = postgresJs(database.sql);
  const one = scene([], async (channel, onNotify, onListen) => {
    if (++opened > 1) return await real.listen(channel, onNotify, onListen);
    onListen();
    return { close: async () => void closed++ };
  });
  receive(one);
  await soon(() => expect(one.driver.count(notify)).toBe(1));
  await soon(async () => {
    await one.clock.advance(250);
    expect(one.hints.proven).toBe(true);
  });
  expect(closed).toBe(1);
  expect(one.told.filter((line) => line === "reconnected").length).toBeGreaterThanOrEqual(2);
});

test("a listener whose connection ends says so when there is a new one", async () => {
  const one = scene();
  receive(one);
  await soon(() => expect(one.hints.proven).toBe(true));
  await database.sql`
    select pg_terminate_backend(pid) from pg_stat_activity
    where datname = current_database() and query like 'listen %' and pid <> pg_backend_pid()`;
  await soon(() => expect(one.told).toEqual(["reconnected", "reconnected"]));
  await soon(() => expect(one.driver.count(notify)).toBe(2));
  one.hints.wake(["a"]);
  await soon(() => expect(one.told.filter((line) => line === "due a 0").length).toBeGreaterThanOrEqual(2));
});

test("a listener that cannot be opened is tried again", async () => {
  let failures = 2;
  const real = postgresJs(database.sql);
  const one = scene([], async (channel, onNotify, onListen) => {
    if (failures-- > 0) throw new Error("no connection");
    return await real.listen(channel, onNotify, onListen);
  });
  receive(one);
  await soon(async () => {
    await one.clock.advance(500);
    expect(one.hints.proven).toBe(true);
  });
  expect(one.seen.filter((seen) => seen.type === "database_trouble" && seen.operation === "listen")).toHaveLength(2);
});

test("without listen() nothing is proven and nothing fails", async () => {
  const one = scene();
  const { listen: _, ...deaf } = one.driver;
  const statements = createStatements(deaf, "orchestratum", one.clock, (o) => void one.seen.push(o));
  const hints = createHints(statements, one.clock, (o) => void one.seen.push(o));
  open.push({ hints, clock: one.clock });
  hints.receive({ due: (queue) => void one.told.push(queue) });
  hints.probe();
  hints.wake(["a"]);
  // Shorter than the deadline of the notification that is under way.
  await one.clock.advance(4_000);
  expect(hints.proven).toBe(false);
  expect(one.told).toEqual(["a"]);
  expect(one.seen).toEqual([]);
});

const listeners = async () => {
  const [row] = await database.sql`
    select count(*)::int as count from pg_stat_activity
    where datname = current_database() and query like 'listen %' and pid <> pg_backend_pid()`;
  return row?.count as number;
};

test("close() sends what the trailing edge held, and leaves no timer and no connection", async () => {
  const one = scene();
  receive(one);
  await soon(() => expect(one.hints.proven).toBe(true));
  // Those of the tests before may still be leaving.
  await soon(async () => expect(await listeners()).toBe(1));
  one.hints.due([due("a", ms)]);
  one.hints.due([due("a", ms - 1)]);
  one.hints.dueAfter("4611686018427387904", [due("b", ms)]);
  await one.hints.close();
  expect(one.payloads()).toEqual([`q a ${ms}`, `q a ${ms - 1}`]);
  expect(one.clock.pending).toBe(0);
  await soon(async () => expect(await listeners()).toBe(0));
  const { length } = one.driver.sent;
  one.hints.cancel("id");
  one.hints.dueAfter("4611686018427387904", [due("b", ms)]);
  one.hints.probe();
  await one.clock.advance(60_000);
  expect(one.driver.sent).toHaveLength(length);
  await one.hints.close();
});

test("close() ends a connection that is still being opened, and retries that wait", async () => {
  const gate = withResolvers();
  let closed = 0;
  const one = scene([], async () => {
    await gate.promise;
    return { close: async () => void closed++ };
  });
  receive(one);
  const closing = one.hints.close();
  gate.resolve();
  await closing;
  await soon(() => expect(closed).toBe(1));

  const two = scene([], () => Promise.reject(new Error("no connection")));
  receive(two);
  await soon(() => expect(two.clock.pending).toBe(1));
  await two.hints.close();
  expect(two.clock.pending).toBe(0);
});

test("close() gives up a connection that is still being opened, and reports nothing", async () => {
  const one = scene([], (_channel, _onNotify, _onListen, { signal } = {}) => {
    return new Promise((_, reject) => {
      signal?.addEventListener("abort", () => reject(signal.reason), { once: true });
    });
  });
  receive(one);
  await one.hints.close();
  expect(one.seen).toEqual([]);
  expect(one.clock.pending).toBe(0);
});

test("close() waits for a notification that is under way", async () => {
  const held = holdBack(notify);
  const one = scene([held]);
  one.hints.wake(["a"]);
  await held.arrived;
  let closed = false;
  const closing = one.hints.close().then(() => {
    closed = true;
  });
  await one.clock.advance(0);
  expect(closed).toBe(false);
  held.release();
  await closing;
  expect(one.clock.pending).toBe(0);
});

function withResolvers(): { promise: Promise<void>; resolve: () => void } {
  let resolve = (): void => {};
  const promise = new Promise<void>((settle) => {
    resolve = settle;
  });
  return { promise, resolve };
}
