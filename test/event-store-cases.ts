/** Streams, the log and its readers, as a user notices them: on every driver and database alike. See conformance.ts for the form. */
import * as v from "valibot";
import {
  type Clock,
  causedBy,
  createOrchestrator,
  type Driver,
  defineCommand,
  defineEvent,
  type Observation,
  type Orchestrator,
  type ReaderOptions,
  type ReaderState,
  type RecordedEvent,
  systemClock,
} from "../src/index.ts";
import {
  type Case,
  eventually,
  minute,
  quick,
  rejection,
  type Scene,
  same,
  scenario,
  signal,
  truth,
} from "./conformance.ts";

/** Contracts, and names of streams and readers, that are a scene's own: all scenes share one log. */
function eventsOf({ queue }: Scene) {
  return {
    counted: defineEvent({ topic: `${queue}.events.counted`, data: v.object({ n: v.number() }) }),
    noted: defineEvent({ topic: `${queue}.events.noted.by_hand` }),
    topics: `${queue}.#`,
    stream: `stream-${queue}`,
    name: `reader-${queue}`,
  };
}

/** A reader of the scene's own events that looks when it is told, and one that only collects. */
function readerOf(scene: Scene, orchestrator: Orchestrator, options: Partial<ReaderOptions> = {}) {
  const { name, topics } = eventsOf(scene);
  return orchestrator.startReader({
    name,
    topics,
    handle: () => {},
    pollIntervalMs: minute,
    backoff: quick,
    ...options,
  });
}

const numbersOf = (events: readonly RecordedEvent[]): number[] => events.map(({ data }) => (data as { n: number }).n);

async function stateOf(scene: Scene, orchestrator: Orchestrator, building = false): Promise<ReaderState | undefined> {
  const { name } = eventsOf(scene);
  return (await orchestrator.readers()).find((state) => state.name === name && state.building === building);
}

/** How many of the scene's processes hear notifications. */
const listeningIn = (scene: Scene): number => scene.seen("listening").filter(({ proven }) => proven).length;

const upTo = (count: number): number[] => Array.from({ length: count }, (_, index) => index + 1);

export const eventStoreCases: readonly Case[] = [
  scenario("append() gives versions, and readStream() reads them forwards, backwards and from one", async (scene) => {
    const { counted, stream } = eventsOf(scene);
    const { append, readStream } = scene.orchestrator([]);
    same(await readStream(stream), [], "a stream that nobody has appended to");
    const first = await append(stream, counted({ n: 1 }), { expectedVersion: 0, metadata: { source: "test" } });
    same(first.version, 1, "the first version");
    const { version } = await append(
      stream,
      upTo(4).map((n) => counted({ n: n + 1 })),
      { expectedVersion: 1 },
    );
    same(version, 5, "the version after four more");
    const all = await readStream(stream);
    same(numbersOf(all), upTo(5), "forwards");
    const [event] = all;
    same(
      [event?.id, event?.topic, event?.stream, event?.version],
      [first.ids[0], counted.topic, stream, 1],
      "the event",
    );
    same(event?.metadata, { correlationId: first.ids[0], source: "test" }, "its metadata");
    truth(Math.abs((event?.appendedAt.getTime() ?? 0) - Date.now()) < minute, "it has its time");
    same(numbersOf(await readStream(stream, { from: 3 })), [3, 4, 5], "from a version");
    same(numbersOf(await readStream(stream, { from: 2, limit: 2 })), [2, 3], "two from a version");
    same(numbersOf(await readStream(stream, { direction: "backwards" })), [5, 4, 3, 2, 1], "backwards");
    same(numbersOf(await readStream(stream, { direction: "backwards", from: 3, limit: 2 })), [3, 2], "two backwards");
    same(await readStream(stream, { from: 6 }), [], "past the end");
  }),

  scenario(
    "readStream() of more than one statement gives at once still gives all that was asked for",
    async (scene) => {
      const { noted, stream } = eventsOf(scene);
      const { append, readStream } = scene.orchestrator([]);
      const large = "x".repeat(200_000);
      for (let part = 0; part < 3; part++) {
        await append(
          stream,
          upTo(20).map((n) => noted({ n: part * 20 + n, large })),
        );
      }
      same(numbersOf(await readStream(stream)), upTo(60), "forwards");
      const some = await readStream(stream, { direction: "backwards", limit: 50 });
      same(numbersOf(some), upTo(60).toReversed().slice(0, 50), "backwards");
    },
  ),

  scenario("append() refuses another version than was expected, and says which one there is", async (scene) => {
    const { counted, stream } = eventsOf(scene);
    const { append, readStream } = scene.orchestrator([]);
    const conflict = async (expectedVersion: number) => {
      const error = await rejection(append(stream, [counted({ n: 9 }), counted({ n: 9 })], { expectedVersion }));
      const { code, currentVersion } = error as Error & { code?: string; currentVersion?: number };
      return [code, currentVersion];
    };
    same(await conflict(1), ["ORCHESTRATUM_STREAM_CONFLICT", 0], "a stream that is not there");
    await append(stream, [counted({ n: 1 }), counted({ n: 2 })]);
    same(await conflict(0), ["ORCHESTRATUM_STREAM_CONFLICT", 2], "a stream that should be new");
    same(await conflict(1), ["ORCHESTRATUM_STREAM_CONFLICT", 2], "one that has gone on");
    same(await conflict(3), ["ORCHESTRATUM_STREAM_CONFLICT", 2], "one that has not come as far");
    await append(stream, counted({ n: 3 }), { expectedVersion: 2 });
    await append(stream, counted({ n: 4 }));
    same(numbersOf(await readStream(stream)), upTo(4), "what was appended");
  }),

  scenario(
    "append() in the caller's transaction leaves it usable after a conflict, and commits with it",
    async (scene) => {
      const { counted, stream } = eventsOf(scene);
      const { append, readStream } = scene.orchestrator([]);
      await append(stream, counted({ n: 1 }));
      await scene.ground.transaction(async (db) => {
        const error = await rejection(append(stream, counted({ n: 9 }), { db, expectedVersion: 0 }));
        const { currentVersion } = error as Error & { currentVersion?: number };
        same(
          (await append(stream, counted({ n: 2 }), { db, expectedVersion: currentVersion })).version,
          2,
          "the version",
        );
      });
      const undone = scene.ground.transaction(async (db) => {
        await append(stream, counted({ n: 3 }), { db });
        throw new Error("rolled back");
      });
      await rejection(undone);
      same(numbersOf(await readStream(stream)), [1, 2], "what has committed");
      same((await append(stream, counted({ n: 3 }))).version, 3, "the version after what was rolled back");
    },
  ),

  scenario("append() whose reply was lost appends once, and answers the version", async (scene) => {
    const { counted, stream } = eventsOf(scene);
    const { driver } = scene.ground;
    let lost = 0;
    const database: Driver = {
      ...driver,
      async query(text, params, options) {
        const rows = await driver.query(text, params, options);
        if (text.includes(".append(") && lost++ === 0) throw new Error("The connection was lost");
        return rows as never;
      },
    };
    await using orchestrator = createOrchestrator({ database });
    const { append, readStream } = orchestrator;
    same(
      (await append(stream, [counted({ n: 1 }), counted({ n: 2 })], { expectedVersion: 0 })).version,
      2,
      "the version",
    );
    truth(lost > 0, "the reply was lost");
    same(numbersOf(await readStream(stream)), [1, 2], "what there is");
    const id = crypto.randomUUID();
    same((await append(stream, counted({ n: 3 }, { id }), { expectedVersion: 2 })).version, 3, "with an id");
    same(
      (await append(stream, counted({ n: 3 }, { id }), { expectedVersion: 2 })).version,
      3,
      "repeated by the caller",
    );
    same(numbersOf(await readStream(stream)), [1, 2, 3], "what there is");
  }),

  scenario(
    "append() with ids that are there is a repeat as a whole, or refused, and never half done",
    async (scene) => {
      const { counted, noted, stream } = eventsOf(scene);
      const { append, readStream } = scene.orchestrator([]);
      const ids = upTo(5).map(() => crypto.randomUUID());
      const event = (n: number) => counted({ n }, { id: ids[n - 1] as string });
      await append(stream, [event(1), event(2)], { expectedVersion: 0 });
      const again = await append(stream, [event(1), event(2)], { expectedVersion: 0 });
      same(again, { version: 2, ids: ids.slice(0, 2) }, "the repeat");
      const refused = async (...[to, events]: Parameters<typeof append>) => {
        const error = await rejection(append(to, events));
        const { code, id } = error as Error & { code?: string; id?: string };
        truth(error.message.startsWith(`Cannot append event ${id}: `), error.message);
        return [code, id];
      };
      const conflict = ["ORCHESTRATUM_EVENT_CONFLICT", ids[0]];
      same(await refused(stream, [event(1), event(3)]), conflict, "one that is there, and one that is not");
      same(await refused(stream, noted({ n: 1 }, { id: ids[0] as string })), conflict, "another topic");
      same(await refused(stream, counted({ n: 9 }, { id: ids[0] as string })), conflict, "other data");
      same(await refused(`${stream}-other`, event(1)), conflict, "another stream");
      await scene.ground
        .transaction(async (db) => {
          const error = await rejection(append(stream, [event(4), event(1)], { db }));
          same((error as { code?: string }).code, "ORCHESTRATUM_EVENT_CONFLICT", "in a transaction");
          throw error;
        })
        .catch(() => {});
      same(numbersOf(await readStream(stream)), [1, 2], "what there is");
    },
  ),

  scenario("of many that append to one stream at once each version has one winner", async (scene) => {
    const { counted, stream } = eventsOf(scene);
    const { append, readStream } = scene.orchestrator([]);
    const decide = async (n: number): Promise<void> => {
      for (;;) {
        const expectedVersion = (await readStream(stream)).length;
        try {
          await append(stream, counted({ n }), { expectedVersion });
          return;
        } catch (error) {
          if ((error as { code?: string }).code !== "ORCHESTRATUM_STREAM_CONFLICT") throw error;
        }
      }
    };
    await Promise.all(upTo(8).map(decide));
    const events = await readStream(stream);
    same(
      events.map(({ version }) => version),
      upTo(8),
      "the versions",
    );
    same(
      numbersOf(events).toSorted((a, b) => a - b),
      upTo(8),
      "the events",
    );
  }),

  scenario(
    "contracts type and parse what is read, and an event that they refuse is told with its data",
    async (scene) => {
      const { queue } = scene;
      const { stream, topics } = eventsOf(scene);
      const dated = defineEvent({
        topic: `${queue}.events.dated`,
        data: v.object({
          at: v.pipe(
            v.string(),
            v.transform((text) => new Date(text)),
          ),
        }),
      });
      const loose = defineEvent({ topic: dated.topic });
      const other = defineEvent({ topic: `${queue}.events.other` });
      const { append, readStream, readAll } = scene.orchestrator([]);
      await append(stream, [dated({ at: "2026-01-02T03:04:05.000Z" }), other("as it is")]);
      const [first, second] = await readStream(stream, { events: [dated] });
      truth(first && dated.is(first) && first.data.at.getUTCFullYear() === 2026, "the data is what the schema answers");
      same(second?.data, "as it is", "data without a contract");
      await append(stream, loose({ at: 1 }));
      const error = await rejection(readAll({ topics, events: [dated] }));
      same(error.code, "ORCHESTRATUM_INVALID_EVENT", "the code");
      const { event, issues } = error as unknown as { event: RecordedEvent; issues: { path: string }[] };
      same([event.data, event.version, issues[0]?.path], [{ at: 1 }, 3, "at"], "what it carries");
    },
  ),

  scenario("readAll() gives every event once, in an order that goes on from any position", async (scene) => {
    const { counted, noted, stream, topics } = eventsOf(scene);
    const { append, publish, readAll } = scene.orchestrator([]);
    for (const n of upTo(7)) await (n % 2 === 0 ? append(stream, counted({ n })) : publish(counted({ n })));
    await publish(noted({ n: 8 }));
    const read: RecordedEvent[] = [];
    for (let after = 0; ; ) {
      const page = await readAll({ after, topics, limit: 3 });
      truth(page.events.length <= 3, "a page has no more than its limit");
      read.push(...page.events);
      truth(page.position >= after, "the position goes forwards");
      after = page.position;
      if (!page.more) break;
    }
    same(numbersOf(read), upTo(8), "all of them");
    const positions = read.map(({ position }) => position ?? 0);
    truth(
      positions.every((position, place) => place === 0 || position > (positions[place - 1] ?? 0)),
      "they increase",
    );
    const after = positions[4] as number;
    same(numbersOf((await readAll({ after, topics })).events), [6, 7, 8], "after a number");
    same(numbersOf((await readAll({ after: String(after), topics })).events), [6, 7, 8], "after a text");
    const one = await readAll({ topics: `${scene.queue}.events.*` });
    same(numbersOf(one.events), upTo(7), "one level");
    const both = await readAll({ topics: [noted.topic, `${scene.queue}.*.counted`] });
    same(numbersOf(both.events), upTo(8), "two patterns");
    same((await readAll({ topics: scene.queue })).events, [], "what no topic is");
    same(
      await readAll({ after: one.position, topics }),
      { events: [], position: one.position, more: false },
      "the end",
    );
  }),

  scenario("events that nobody reads are placed by a duty of the workers", async (scene) => {
    const { counted, topics } = eventsOf(scene);
    const idle = defineCommand(scene.define({ name: "idle" }));
    const orchestrator = scene.orchestrator([idle.handle(() => {})]);
    await orchestrator.publish(counted({ n: 1 }));
    // As if no duty had been done for long.
    const due = "update orchestratum.duty set next_run_at = now(), lease_ends_at = null where name = $1::text";
    await scene.ground.driver.query(due, ["events"]);
    await scene.work(orchestrator);
    await eventually("nothing waits for its place", async () => {
      const [row] = await scene.ground.driver.query<{ waits: boolean }>(
        "select exists (select from orchestratum.event_inbox) as waits",
        [],
      );
      return row?.waits === false;
    });
    same(numbersOf((await orchestrator.readAll({ topics })).events), [1], "what is read");
  }),

  scenario("a reader gets every event once, in order and in batches, and hears of new ones at once", async (scene) => {
    const { counted, noted, stream, name } = eventsOf(scene);
    const orchestrator = scene.orchestrator([]);
    const { append, publish } = orchestrator;
    await append(
      stream,
      upTo(5).map((n) => counted({ n })),
    );
    const batches: number[][] = [];
    const got = { five: signal(), six: signal(), seven: signal() };
    const seen = () => batches.flat();
    const reader = readerOf(scene, orchestrator, {
      batchSize: 2,
      topics: [`${scene.queue}.events.counted`],
      handle(events, { generation, building, signal: aborted }) {
        batches.push(numbersOf(events));
        same([generation, building, aborted.aborted], [1, false, false], "the context");
        if (seen().length === 5) got.five.give();
        if (seen().length === 6) got.six.give();
        if (seen().length === 7) got.seven.give();
      },
    });
    await got.five.got();
    same(batches, [[1, 2], [3, 4], [5]], "the batches");
    // Its poll is a minute away.
    await publish([noted({ n: 0 }), counted({ n: 6 })]);
    await got.six.got();
    await scene.ground.transaction(async (db) => {
      await append(stream, counted({ n: 7 }), { db });
    });
    await got.seven.got();
    same(seen(), upTo(7), "all of them");
    await reader.stop();
    const state = await stateOf(scene, orchestrator);
    same(
      [state?.name, state?.generation, state?.lag, state?.holder, state?.failures],
      [name, 1, 0, undefined, 0],
      "state",
    );
    truth(state?.checkpointAt instanceof Date, "it has the time of its checkpoint");
  }),

  scenario("a reader goes on where the one before it stopped, and begins where it was told to", async (scene) => {
    const { counted, name, topics } = eventsOf(scene);
    const orchestrator = scene.orchestrator([]);
    const { publish, readAll } = orchestrator;
    const readUntil = async (last: number, options: Partial<ReaderOptions> = {}): Promise<number[]> => {
      const seen: number[] = [];
      const done = signal();
      const handle = (events: readonly RecordedEvent[]) => {
        seen.push(...numbersOf(events));
        if (seen.at(-1) === last) done.give();
      };
      const reader = readerOf(scene, orchestrator, { handle, ...options });
      await done.got();
      await reader.stop();
      truth(!reader.isRunning, "it has stopped");
      return seen;
    };
    await publish(upTo(4).map((n) => counted({ n })));
    same(await readUntil(4), upTo(4), "the first");
    await publish(counted({ n: 5 }));
    same(await readUntil(5, { from: "beginning" }), [5], "the second, whatever it begins with");
    const events = (await readAll({ topics })).events;
    const from = String(events[2]?.position);
    same(await readUntil(5, { name: `${name}-other`, from }), [4, 5], "one that begins after a position");
    const newest = readerOf(scene, orchestrator, { name: `${name}-newest`, from: "now" });
    await newest.started;
    await newest.stop();
    await publish(counted({ n: 6 }));
    same(await readUntil(6, { name: `${name}-newest` }), [6], "one that began at the end");
  }),

  scenario("checkpoint(db) commits with what the handler writes, and is rolled back with it", async (scene) => {
    const { counted } = eventsOf(scene);
    const { driver } = scene.ground;
    const table = `projection_${scene.queue}`;
    await driver.script(`create table ${table} (n int primary key)`);
    const orchestrator = scene.orchestrator([]);
    await orchestrator.publish(upTo(6).map((n) => counted({ n })));
    const position = async () => (await stateOf(scene, orchestrator))?.position ?? 0;
    const [before, done] = [await position(), signal()];
    const batches: number[][] = [];
    const reader = readerOf(scene, orchestrator, {
      batchSize: 3,
      async handle(events, { checkpoint }) {
        batches.push(numbersOf(events));
        const undo = batches.length === 1;
        const work = scene.ground.transaction(async (db) => {
          for (const n of numbersOf(events)) await db.query(`insert into ${table} values ($1::int)`, [n]);
          await checkpoint(db);
          if (undo) throw new Error("rolled back");
        });
        if (undo) {
          // A handler that hears nothing of what became of its transaction.
          await work.catch(() => {});
          same(await position(), before, "the checkpoint of what was rolled back");
          return;
        }
        await work;
        if (numbersOf(events).includes(6)) done.give();
      },
    });
    await done.got();
    same(batches, [upTo(3), upTo(3), [4, 5, 6]], "the batches");
    const rows = await driver.query<{ n: number }>(`select n from ${table} order by n`, []);
    same(
      rows.map(({ n }) => n),
      upTo(6),
      "what it wrote",
    );
    same(
      scene.seen("reader_failed").map(({ error }) => error.code),
      ["rolled_back"],
      "what failed",
    );
    await reader.stop();
    truth((await position()) > before, "the checkpoint has moved");
  }),

  scenario("checkpoint(db, event) records a part of a batch: after a failure the rest comes again", async (scene) => {
    const { counted } = eventsOf(scene);
    const orchestrator = scene.orchestrator([]);
    await orchestrator.publish(upTo(4).map((n) => counted({ n })));
    const seen: number[] = [];
    const done = signal();
    let failed = false;
    readerOf(scene, orchestrator, {
      async handle(events, { checkpoint }) {
        for (const event of events) {
          const [n] = numbersOf([event]);
          seen.push(n as number);
          if (n === 3 && !failed) {
            failed = true;
            throw new Error("in the middle");
          }
          await scene.ground.transaction((db) => checkpoint(db, event));
        }
        if (seen.at(-1) === 4) done.give();
      },
    });
    await done.got();
    same(seen, [1, 2, 3, 3, 4], "what it got");
  }),

  scenario("a batch that fails is tried again, is never passed over, and everybody can see why", async (scene) => {
    const { counted } = eventsOf(scene);
    const orchestrator = scene.orchestrator([]);
    await orchestrator.publish(upTo(3).map((n) => counted({ n })));
    let broken = true;
    let tries = 0;
    const seen: number[] = [];
    const done = signal();
    readerOf(scene, orchestrator, {
      batchSize: 1,
      handle(events) {
        const [n] = numbersOf(events);
        if (n === 2 && broken) {
          tries++;
          throw Object.assign(new Error("no room"), { code: "ENOROOM" });
        }
        seen.push(n as number);
        if (n === 3) done.give();
      },
    });
    await eventually("it has failed three times", () => tries >= 3);
    await eventually("the list shows it", async () => (await stateOf(scene, orchestrator))?.lastError === "no room");
    const state = await stateOf(scene, orchestrator);
    truth((state?.failures ?? 0) >= 1 && state?.lastFailedAt instanceof Date && state.lag >= 2, "it tells how often");
    const [failure, second] = scene.seen("reader_failed");
    same([failure?.failures, failure?.error.code, second?.failures], [1, "ENOROOM", 2], "what was observed");
    broken = false;
    await done.got();
    same(seen, [1, 2, 3], "what it dealt with");
    await eventually("the error is gone", async () => (await stateOf(scene, orchestrator))?.lastError === undefined);
  }),

  scenario("resetReader() goes past an event that nobody can deal with, and back", async (scene) => {
    const { counted, name, topics } = eventsOf(scene);
    const orchestrator = scene.orchestrator([]);
    await orchestrator.publish(upTo(3).map((n) => counted({ n })));
    const { events } = await orchestrator.readAll({ topics });
    const seen: number[] = [];
    const [first, again] = [signal(), signal()];
    readerOf(scene, orchestrator, {
      batchSize: 1,
      backoff: { initialMs: minute, jitter: "none" },
      handle(batch) {
        const [n] = numbersOf(batch);
        if (n === 2) throw new Error("poison");
        seen.push(n as number);
        if (n === 3 && seen.length === 2) first.give();
        if (n === 3 && seen.length === 3) again.give();
      },
    });
    await eventually("it has failed", () => scene.seen("reader_failed").length > 0);
    await eventually("it waits", async () => (await stateOf(scene, orchestrator))?.retryAt instanceof Date);
    await orchestrator.resetReader(name, events[1]?.position ?? 0);
    await first.got();
    await orchestrator.resetReader(name, String(events[1]?.position));
    await again.got();
    same(seen, [1, 3, 3], "what it dealt with");
    const error = await rejection(orchestrator.resetReader(`${name}-nobody`, 0));
    same(error.code, "ORCHESTRATUM_UNKNOWN_READER", "a reader that there is not");
  }),

  scenario(
    "of the processes that start a reader one reads, and when it stops another goes on at once",
    async (scene) => {
      const { counted } = eventsOf(scene);
      const orchestrators = [scene.orchestrator([]), scene.orchestrator([]), scene.orchestrator([])];
      const producer = scene.orchestrator([]);
      const seen: string[] = [];
      // Where nothing is notified a poll finds it; elsewhere neither a poll nor the end of the lease comes in time.
      const { listen } = scene.ground.driver;
      const readers = orchestrators.map((orchestrator) =>
        readerOf(scene, orchestrator, {
          leaseMs: 600_000,
          pollIntervalMs: listen ? minute : 20,
          handle(events, { signal: { aborted } }) {
            for (const n of numbersOf(events)) seen.push(`${n} ${aborted}`);
          },
        }),
      );
      await Promise.all(readers.map(({ started }) => started));
      if (listen) await eventually("all listen", () => listeningIn(scene) >= 3);
      const holder = async () => (await stateOf(scene, producer))?.holder;
      const others = new Set(readers.map(({ id }) => id));
      for (const part of [0, 1, 2]) {
        await eventually("another one has it", async () => others.has((await holder()) ?? ""));
        const id = (await holder()) as string;
        others.delete(id);
        await producer.publish(upTo(5).map((n) => counted({ n: 5 * part + n })));
        await eventually("it has read these", () => seen.length === 5 * (part + 1));
        same(await holder(), id, "who reads");
        const place = readers.findIndex((reader) => reader.id === id);
        // Of a reader, and of all that a process does.
        await (part === 0 ? readers[place] : orchestrators[place])?.stop();
      }
      same(
        seen,
        upTo(15).map((n) => `${n} false`),
        "what was read",
      );
    },
  ),

  scenario("an event makes nobody ask for a lease, and what is done to a reader makes everybody", async (scene) => {
    const { counted, name } = eventsOf(scene);
    let asked = 0;
    const { driver } = scene.ground;
    const database: Driver = {
      ...driver,
      query(text, params, options) {
        if (text.includes("free_in_ms")) asked++;
        return driver.query(text, params, options);
      },
    };
    await using orchestrator = createOrchestrator({ database });
    let last = 0;
    const handle = (events: readonly RecordedEvent[]) => {
      last = numbersOf(events).at(-1) ?? 0;
    };
    const holding = readerOf(scene, orchestrator, { leaseMs: 600_000, handle });
    await holding.started;
    const holder = async () => (await stateOf(scene, orchestrator))?.holder;
    await eventually("it has it", async () => (await holder()) === holding.id);
    await readerOf(scene, orchestrator, { leaseMs: 600_000, handle }).started;
    await eventually("the other one has asked", () => asked >= 2);
    await orchestrator.publish(counted({ n: 1 }));
    await eventually("it reads", () => last === 1);
    // Those who heard of other cases' readers have asked by now.
    const before = asked;
    for (const n of upTo(30)) {
      await orchestrator.publish(counted({ n: n + 1 }));
      await eventually("it reads on", () => last === n + 1);
    }
    truth(asked - before < 10, `asked for the lease ${asked - before} times`);
    await orchestrator.pauseReader(name);
    await eventually("it is let go", async () => (await holder()) === undefined);
    await orchestrator.resumeReader(name);
    await eventually("somebody has it", async () => (await holder()) !== undefined);
  }),

  scenario("several readers that hear of one event all get it at once, whoever is placing it", async (scene) => {
    const { counted, name } = eventsOf(scene);
    const got = upTo(4).map(() => 0);
    const orchestrator = scene.orchestrator([]);
    const readers = got.map((_, place) =>
      readerOf(scene, orchestrator, {
        name: `${name}-${place}`,
        handle(events) {
          got[place] = numbersOf(events).at(-1) ?? 0;
        },
      }),
    );
    await Promise.all(readers.map(({ started }) => started));
    // Nobody's poll comes within the time that is waited.
    const allHave = (n: number) => eventually(`all have event ${n}`, () => got.every((last) => last === n));
    for (const n of upTo(10)) {
      await orchestrator.publish(counted({ n }));
      await allHave(n);
    }
    const locked = signal<boolean>();
    const placing = scene.ground.transaction(async (db) => {
      await db.query("select from orchestratum.event_head for update", []);
      locked.give(true);
      // Two reads wait for that no longer than half of it: a reader that hears of an event while it reads does so again.
      await new Promise((resolve) => setTimeout(resolve, 1_000));
    });
    await locked.got();
    await Promise.all([placing, orchestrator.publish(counted({ n: 11 }))]);
    await allHave(11);
  }),

  scenario("readAll() shows what was published before it, whoever is placing that", async (scene) => {
    const { counted, topics } = eventsOf(scene);
    const { publish, readAll } = scene.orchestrator([]);
    /** Reads on for as long as there is more: who places at this moment is not waited for without end. */
    const readOn = async (after: number) => {
      const read = { numbers: [] as number[], position: after };
      for (let more = true; more; ) {
        const page = await readAll({ topics, after: read.position });
        read.numbers.push(...numbersOf(page.events));
        ({ more } = page);
        read.position = page.position;
      }
      return read;
    };
    let { position: after } = await readOn(0);
    for (const n of upTo(20)) {
      await publish(counted({ n }));
      const reads = await Promise.all(upTo(4).map(() => readOn(after)));
      same(
        reads.map(({ numbers }) => numbers),
        upTo(4).map(() => [n]),
        `what is shown of event ${n}`,
      );
      after = Math.min(...reads.map(({ position }) => position));
    }
    const { driver } = scene.ground;
    // PGlite has one transaction at a time: nobody places while another one reads.
    if (driver.name === "pglite") return;
    await publish(counted({ n: 21 }));
    const [locked, isMet] = [signal(), signal()];
    const placing = scene.ground.transaction(async (db) => {
      await db.query("select from orchestratum.event_head for update", []);
      locked.give();
      await isMet.got();
    });
    await Promise.race([locked.got(), placing]);
    const database: Driver = {
      ...driver,
      async query<Row>(...statement: Parameters<Driver["query"]>) {
        const rows = await driver.query<Row>(...statement);
        if (rows.some((row) => (row as { busy?: unknown }).busy === true)) isMet.give();
        return rows;
      },
    };
    // It waits for a quarter of a second in all, and the other one ends within the first of its pauses.
    const clock: Clock = {
      ...systemClock,
      after(ms, ring) {
        if (ms > 250) return systemClock.after(ms, ring);
        void placing.catch(() => {}).then(() => ring());
        return { cancel() {} };
      },
    };
    await using waiting = createOrchestrator({ database, clock });
    const [page] = await Promise.all([waiting.readAll({ topics, after }), placing]);
    same([numbersOf(page.events), page.more], [[21], false], "what is shown once who is placing has ended");
  }),

  ...(
    [
      ["leaves unanswered", () => new Promise<never>(() => {})],
      // Each fails at once, so that the last one is long over when the lease's time comes.
      ["refuses", () => Promise.reject(new Error("The database is away"))],
    ] as const
  ).map(([what, answer]) =>
    scenario(`a lease whose heartbeats the database ${what} is given up before it ends`, async (scene) => {
      const { counted, name } = eventsOf(scene);
      const { driver } = scene.ground;
      let silent = false;
      const database: Driver = {
        ...driver,
        query(text, params, options) {
          if (silent && text.includes("'rolled_back'")) return answer();
          return driver.query(text, params, options);
        },
      };
      await using orchestrator = createOrchestrator({ database });
      await orchestrator.publish(counted({ n: 1 }));
      const over = signal<{ readonly toldAt: number; readonly endsAt: number }>();
      readerOf(scene, orchestrator, {
        leaseMs: 4_000,
        async handle(_, { signal: aborted }) {
          silent = true;
          // By this process's clock, which is the database's in a test: what is asked then may be answered late.
          const toldAt = await new Promise<number>((resolve) => {
            aborted.addEventListener("abort", () => resolve(Date.now()));
          });
          const [row] = await driver.query<{ ends_at: number }>(
            "select (extract(epoch from r.available_at) * 1000)::float8 as ends_at from orchestratum.reader r where r.name = $1::text",
            [name],
          );
          over.give({ toldAt, endsAt: Number(row?.ends_at) });
        },
      });
      const { toldAt, endsAt } = await over.got();
      truth(
        toldAt < endsAt,
        `nobody else could have it when its handler was told, ${endsAt - toldAt} ms before its end`,
      );
    }),
  ),

  scenario("a reader that is stopped before the database answers says so to who waits for it", async (scene) => {
    const { driver } = scene.ground;
    const database: Driver = { ...driver, query: () => Promise.reject(new Error("The database is away")) };
    await using orchestrator = createOrchestrator({ database });
    const reader = readerOf(scene, orchestrator);
    const late = rejection(reader.started);
    await reader.stop();
    same((await late).name, "StoppedError", "the error");
  }),

  scenario(
    "what a reader's handler sends with causedBy() goes on with the chain, as a delivery does",
    async (scene) => {
      const { counted, noted, stream } = eventsOf(scene);
      const follow = defineCommand(scene.define({ name: "follow" }));
      const orchestrator = scene.orchestrator([]);
      const metadata = {
        correlationId: "order-7",
        actor: { id: "ada", type: "user" },
        causationId: "a request",
        shop: "north",
      };
      const { id } = await orchestrator.publish(counted({ n: 1 }, { metadata }));
      const plain = await orchestrator.publish(counted({ n: 2 }));
      const pushed = signal<string>();
      readerOf(scene, orchestrator, {
        topics: counted.topic,
        async handle(events) {
          for (const event of events) await orchestrator.append(stream, noted(), { metadata: causedBy(event) });
          const [first] = events as [RecordedEvent];
          pushed.give((await orchestrator.push(follow(), { metadata: causedBy(first) })).id);
        },
      });
      const command = await orchestrator.get(await pushed.got());
      same(command?.metadata, { ...metadata, causationId: id }, "what the command got");
      const appended = (await orchestrator.readStream(stream)).map((event) => event.metadata);
      const wanted = [
        { ...metadata, causationId: id },
        { correlationId: plain.id, causationId: plain.id },
      ];
      same(appended, wanted, "what the events got");
    },
  ),

  scenario("a reader whose lease was lost records nothing more, and its transaction is rolled back", async (scene) => {
    const { counted, name } = eventsOf(scene);
    const { driver } = scene.ground;
    const table = `fenced_${scene.queue}`;
    await driver.script(`create table ${table} (n int, fence int)`);
    const orchestrator = scene.orchestrator([]);
    await orchestrator.publish([counted({ n: 1 }), counted({ n: 2 })]);
    const done = signal();
    let starts = 0;
    let late: (Error & { code?: string }) | undefined;
    readerOf(scene, orchestrator, {
      async handle(events, { checkpoint }) {
        const fence = ++starts;
        // As when this process stands still for longer than its lease, and another one goes on.
        if (fence === 1) await orchestrator.resetReader(name, 0);
        const work = scene.ground.transaction(async (db) => {
          for (const n of numbersOf(events)) {
            await db.query(`insert into ${table} values ($1::int, $2::int)`, [n, fence]);
          }
          await checkpoint(db);
        });
        if (fence === 1) {
          late = await rejection(work);
          throw late;
        }
        await work;
        done.give();
      },
    });
    await done.got();
    same(late?.code, "ORCHESTRATUM_READER_LEASE_LOST", "the error");
    const rows = await driver.query<{ n: number; fence: number }>(`select n, fence from ${table} order by n`, []);
    same(
      rows,
      [
        { n: 1, fence: 2 },
        { n: 2, fence: 2 },
      ],
      "what was written",
    );
    same(scene.seen("reader_lease_lost").length, 1, "the observation");
  }),

  scenario("a handler that takes longer than its lease keeps it by heartbeats", async (scene) => {
    const { counted, name: reader } = eventsOf(scene);
    const [one, two] = [scene.orchestrator([]), scene.orchestrator([])];
    await one.publish([counted({ n: 1 })]);
    const starts: string[] = [];
    const done = signal();
    const { driver } = scene.ground;
    const start = (name: string, orchestrator: Orchestrator) =>
      readerOf(scene, orchestrator, {
        leaseMs: 6_000,
        pollIntervalMs: 20,
        async handle() {
          starts.push(name);
          const held = "select r.available_at::text as until from orchestratum.reader r where r.name = $1::text";
          const [first] = await driver.query<{ until: string }>(held, [reader]);
          const isOver = "select clock_timestamp() > $1::text::timestamptz as over";
          await eventually("the lease that it began with is over", async () => {
            const [row] = await driver.query<{ over: boolean }>(isOver, [first?.until ?? ""]);
            return row?.over === true;
          });
          done.give();
        },
      });
    start("one", one);
    start("two", two);
    await done.got();
    await eventually("it is recorded", async () => (await stateOf(scene, one))?.lag === 0);
    same(starts.length, 1, "how often it was handled");
    same(scene.seen("reader_lease_lost"), [], "leases that were lost");
  }),

  scenario("a handler that takes too long is aborted, and its batch is tried again", async (scene) => {
    const { counted } = eventsOf(scene);
    const orchestrator = scene.orchestrator([]);
    await orchestrator.publish([counted({ n: 1 })]);
    const done = signal();
    let starts = 0;
    readerOf(scene, orchestrator, {
      timeoutMs: 100,
      async handle(_, { signal: aborted }) {
        if (++starts > 1) return done.give();
        await new Promise((_, reject) => aborted.addEventListener("abort", () => reject(aborted.reason)));
      },
    });
    await done.got();
    truth(scene.seen("reader_failed")[0]?.error.message.includes("100 ms"), "the failure says why");
  }),

  scenario(
    "rebuild() builds a generation beside the one in use, from the beginning, and then puts it in use",
    async (scene) => {
      const { counted, name, stream } = eventsOf(scene);
      const orchestrator = scene.orchestrator([]);
      const { append, rebuild } = orchestrator;
      await append(
        stream,
        upTo(10).map((n) => counted({ n })),
      );
      const built = new Map<number, number[]>();
      const of = (generation: number): number[] => built.get(generation) ?? [];
      const hold = signal();
      const reader = readerOf(scene, orchestrator, {
        batchSize: 3,
        pollIntervalMs: 20,
        async handle(events, { generation, building }) {
          same(building, generation === 2 && scene.seen("reader_switched").length === 0, "whether it is being built");
          if (generation === 2 && of(2).length >= 6) await hold.got();
          built.set(generation, [...of(generation), ...numbersOf(events)]);
        },
      });
      await eventually("the first is built", () => of(1).length === 10);
      same(await rebuild(name), { generation: 2, begun: true }, "the rebuild");
      same(await rebuild(name), { generation: 2, begun: false }, "another one");
      await eventually("the second is being built", () => of(2).length === 6);
      // Meanwhile the one in use goes on.
      await append(stream, counted({ n: 11 }));
      await eventually("the first goes on", () => of(1).length === 11);
      const states = (await orchestrator.readers()).filter((state) => state.name === name);
      same(
        states.map(({ generation, building }) => [generation, building]),
        [
          [1, false],
          [2, true],
        ],
        "the states",
      );
      hold.give();
      await eventually("it is put in use", () => scene.seen("reader_switched").length === 1);
      same(of(2), upTo(11), "what the second got");
      for (const n of [12, 13, 14]) {
        await append(stream, counted({ n }));
        await eventually("the second goes on", () => of(2).length === n);
      }
      // It may be handed one more before it hears of it; that is not recorded.
      truth(of(1).length <= 12, "the first has ended");
      const state = await stateOf(scene, orchestrator);
      same([state?.generation, state?.building], [2, false], "what is in use");
      same(await stateOf(scene, orchestrator, true), undefined, "what is being built");
      await reader.stop();
      same((await rebuild(name)).generation, 3, "the next generation");
      same([await orchestrator.cancelRebuild(name), await orchestrator.cancelRebuild(name)], [true, false], "given up");
      const together = await Promise.all(upTo(4).map(() => rebuild(name)));
      truth((together[0]?.generation ?? 0) > 3, "one that was given up keeps its number");
      same(new Set(together.map(({ generation }) => generation)).size, 1, "of several at once");
      same(together.filter(({ begun }) => begun).length, 1, "who began it");
      same((await rejection(rebuild(`${name}-nobody`))).code, "ORCHESTRATUM_UNKNOWN_READER", "of nobody");
    },
  ),

  scenario("a rebuild catches up with a log that never rests", async (scene) => {
    const { counted, name } = eventsOf(scene);
    const orchestrator = scene.orchestrator([]);
    const { publish, rebuild } = orchestrator;
    await publish(upTo(20).map((n) => counted({ n })));
    const last = new Map<number, number>();
    readerOf(scene, orchestrator, {
      batchSize: 5,
      pollIntervalMs: 20,
      handle(events, { generation }) {
        for (const n of numbersOf(events)) {
          same(n, (last.get(generation) ?? 0) + 1, `the order of generation ${generation}`);
          last.set(generation, n);
        }
      },
    });
    await eventually("the first has begun", () => (last.get(1) ?? 0) >= 20);
    let writing = true;
    let n = 20;
    const writer = (async () => {
      while (writing) await publish(counted({ n: ++n }));
    })();
    await rebuild(name);
    await eventually("it is put in use", () => scene.seen("reader_switched").length === 1);
    writing = false;
    await writer;
    await eventually("the second has all", () => last.get(2) === n);
    same(
      (await orchestrator.readers()).filter((state) => state.name === name).map(({ generation }) => generation),
      [2],
      "what there is",
    );
  }),

  scenario("pauseReader() lets a reader rest until resumeReader()", async (scene) => {
    const { counted, name } = eventsOf(scene);
    const orchestrator = scene.orchestrator([]);
    const { publish, pauseReader, resumeReader } = orchestrator;
    const seen: number[] = [];
    const got = signal();
    const reader = readerOf(scene, orchestrator, {
      handle(events) {
        seen.push(...numbersOf(events));
        if (seen.includes(2)) got.give();
      },
    });
    await reader.started;
    await publish(counted({ n: 1 }));
    await eventually("it reads", () => seen.length === 1);
    same([await pauseReader(name), await pauseReader(name)], [true, false], "the pause");
    await eventually("nobody holds it", async () => (await stateOf(scene, orchestrator))?.holder === undefined);
    await publish(counted({ n: 2 }));
    same((await stateOf(scene, orchestrator))?.pausedAt instanceof Date, true, "the time of the pause");
    same(seen, [1], "what it got while it rested");
    same([await resumeReader(name), await resumeReader(name)], [true, false], "the resumption");
    await got.got();
    same((await rejection(pauseReader(`${name}-nobody`))).code, "ORCHESTRATUM_UNKNOWN_READER", "of nobody");
  }),

  scenario("removeReader() forgets a reader, and ends it where it runs", async (scene) => {
    const { name } = eventsOf(scene);
    const orchestrator = scene.orchestrator([]);
    const reader = readerOf(scene, orchestrator);
    await reader.started;
    await eventually("it reads", async () => (await stateOf(scene, orchestrator))?.holder === reader.id);
    same(await orchestrator.removeReader(name), true, "the removal");
    await eventually("it has ended", () => !reader.isRunning);
    same(await stateOf(scene, orchestrator), undefined, "what is listed");
    same(await orchestrator.removeReader(name), false, "another");
    same(orchestrator.startedReaders, [], "what runs here");
  }),

  scenario(
    "stop() ends although the handler ignores its signal, and what that does later does not count",
    async (scene) => {
      const { counted } = eventsOf(scene);
      const orchestrator = scene.orchestrator([]);
      await orchestrator.publish(counted({ n: 1 }));
      const [started, goOn, over] = [signal(), signal(), signal<Error & { code?: string }>()];
      const reader = readerOf(scene, orchestrator, {
        async handle(_, { checkpoint }) {
          started.give();
          await goOn.got();
          over.give(await rejection(scene.ground.transaction((db) => checkpoint(db))));
        },
      });
      await started.got();
      const before = (await stateOf(scene, orchestrator))?.position;
      await Promise.all([reader.stop({ graceMs: 0 }), reader.stop()]);
      truth(!reader.isRunning, "it has stopped");
      const state = await stateOf(scene, orchestrator);
      same([state?.holder, state?.failures], [undefined, 0], "who has it");
      goOn.give();
      truth((await over.got()).message.includes("checkpoint"), "a late checkpoint is refused");
      same((await stateOf(scene, orchestrator))?.position, before, "the checkpoint");
    },
  ),

  scenario("a reader lives through a database that fails for a while", async (scene) => {
    const { counted } = eventsOf(scene);
    const { driver } = scene.ground;
    const seen: number[] = [];
    let down = false;
    const database: Driver = {
      ...driver,
      query(text, params, options) {
        if (down) return Promise.reject(new Error("The database is away"));
        return driver.query(text, params, options);
      },
    };
    const observations: Observation[] = [];
    await using orchestrator = createOrchestrator({ database, observe: (one) => void observations.push(one) });
    readerOf(scene, orchestrator, {
      pollIntervalMs: 20,
      leaseMs: 1_000,
      handle: (events) => void seen.push(...numbersOf(events)),
    });
    await orchestrator.publish(counted({ n: 1 }));
    // More than once, where its lease was lost on a busy machine.
    await eventually("it reads", () => seen.includes(1));
    down = true;
    await eventually("it has noticed", () => observations.some((one) => one.type === "database_trouble"));
    down = false;
    await orchestrator.publish(counted({ n: 2 }));
    await eventually("it goes on", () => seen.includes(2));
    same(
      observations.filter((one) => one.type === "reader_failed"),
      [],
      "failures of the handler",
    );
  }),

  scenario("what is no stream, position, topic or reader is refused before any statement", async (scene) => {
    const { append, readStream, readAll, startReader, rebuild, resetReader } = scene.orchestrator([]);
    const handle = () => {};
    const wrong: [() => unknown, string][] = [
      [() => append("a\0", []), "stream"],
      [() => readStream(""), "stream"],
      [() => readStream("a\0"), "stream"],
      [() => readStream("s", { from: 0 }), "from"],
      [() => readStream("s", { limit: 10_001 }), "limit"],
      [() => readStream("s", { direction: "up" as never }), "direction"],
      [() => readStream("s", { events: [{}] as never }), "events[0]"],
      [() => readAll({ after: -1 }), "after"],
      [() => readAll({ after: "1e3" }), "after"],
      [() => readAll({ after: 1.5 }), "after"],
      [() => readAll({ limit: 1_001 }), "limit"],
      [() => readAll({ topics: [] }), "topics"],
      [() => readAll({ topics: "a.#.b" }), "pattern"],
      [() => readAll({ topics: "a..b" }), "pattern"],
      [() => startReader({ name: "", handle }), "name"],
      [() => startReader({ name: "a", handle: 1 as never }), "handle"],
      [() => startReader({ name: "a", handle, batchSize: 0 }), "batchSize"],
      [() => startReader({ name: "a", handle, leaseMs: 999 }), "leaseMs"],
      [() => startReader({ name: "a", handle, from: "middle" }), "from"],
      [() => startReader({ name: "a", handle, pollIntervalMs: 1 }), "pollIntervalMs"],
      [() => rebuild("a", { from: -1 }), "from"],
      [() => resetReader("a", "x"), "position"],
    ];
    for (const [call, field] of wrong) {
      const error = await rejection((async () => await call())());
      truth(/^(Type|Range)Error$/.test(error.name), `${error.name} is one of misuse: ${error.message}`);
      truth(error.message.includes(`: ${field} must`), `the error names ${field}: ${error.message}`);
    }
  }),
];
