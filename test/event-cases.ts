/** Events and their subscribers, as a user notices them: on every driver and database alike. See conformance.ts for the form. */
import * as v from "valibot";
import {
  type AnyEventContract,
  createOrchestrator,
  type Driver,
  defineCommand,
  defineEvent,
  defineEvents,
  type EventStatus,
  type Handler,
  type LogPage,
  type Orchestrator,
  PermanentFailure,
  type RecordedEvent,
  type SubscriptionDefinition,
  snooze,
  subscribe,
} from "../src/index.ts";
import {
  type Case,
  eventually,
  limited,
  quick,
  rejection,
  type Scene,
  same,
  scenario,
  signal,
  truth,
} from "./conformance.ts";

/** Contracts whose topics are a scene's own: all scenes share the subscriptions of one database. */
function eventsOf({ queue }: Scene) {
  return defineEvents(`${queue}.orders`, {
    OrderPlaced: { data: v.object({ orderId: v.string(), total: v.optional(v.number(), 0) }) },
    OrderShipped: { data: v.object({ orderId: v.string() }) },
    Noted: {},
  });
}

/** A subscription whose name and queue are the scene's own. */
function subscribed(
  scene: Scene,
  name: string,
  to: string | AnyEventContract | readonly (string | AnyEventContract)[],
  handler: SubscriptionDefinition<string>["handler"],
  options: Partial<SubscriptionDefinition> = {},
): Handler {
  return subscribe({
    queue: scene.queue,
    backoff: quick,
    ...options,
    name: `${name}_${scene.queue}`,
    to: to as string,
    handler,
  } as SubscriptionDefinition<string>);
}

/** Waits until every delivery of an event has ended, and answers what became of it. */
async function settled(orchestrator: Orchestrator, id: string, count: number): Promise<EventStatus> {
  let status: EventStatus | undefined;
  await eventually(`${count} deliveries have ended`, async () => {
    status = await orchestrator.eventStatus(id);
    const ended = status?.deliveries.filter(({ finishedAt }) => finishedAt !== undefined) ?? [];
    return ended.length === count && status?.deliveries.length === count;
  });
  return status as EventStatus;
}

/** The scene's events in the log. While somebody else places some, a page may be short, or empty, though more are to come. */
async function logOf({ queue }: Scene, { readAll }: Orchestrator): Promise<RecordedEvent[]> {
  const events: RecordedEvent[] = [];
  let page: LogPage = { events, position: 0, more: true };
  while (page.more) {
    page = await readAll({ topics: `${queue}.#`, after: page.position });
    events.push(...page.events);
  }
  return events;
}

const short = (name: string): string => name.replace(/_q[a-z0-9]+$/, "");

const statesOf = ({ deliveries }: EventStatus) =>
  deliveries.map(({ subscription, status, attempt }) => [short(subscription), status, attempt]);

export const eventCases: readonly Case[] = [
  scenario(
    "publish() delivers an event to every subscription that matches, parsed where it names the contract",
    async (scene) => {
      const { OrderPlaced, OrderShipped } = eventsOf(scene);
      const seen: [string, RecordedEvent][] = [];
      const note =
        (who: string) =>
        ({ event }: { event: RecordedEvent }) =>
          void seen.push([who, event]);
      const orchestrator = await scene.working([
        subscribed(scene, "by_contract", OrderPlaced, note("contract")),
        subscribed(scene, "by_list", [OrderPlaced, OrderShipped, `${scene.queue}.*.order_placed`], note("list")),
        subscribed(scene, "by_pattern", `${scene.queue}.#`, note("pattern")),
        subscribed(scene, "another", `${scene.queue}.orders.noted`, note("another")),
      ]);
      const { id } = await orchestrator.publish(OrderPlaced({ orderId: "o-1" }, { metadata: { source: "shop" } }));
      const status = await settled(orchestrator, id, 3);
      same(status.status, "handled", "the status");
      same(
        statesOf(status),
        [
          ["by_contract", "succeeded", 1],
          ["by_list", "succeeded", 1],
          ["by_pattern", "succeeded", 1],
        ],
        "the deliveries",
      );
      const byWho = new Map(seen);
      same(seen.length, 3, "how many handlers ran");
      same(byWho.get("contract")?.data, { orderId: "o-1", total: 0 }, "as the schema answers it");
      same(byWho.get("list")?.data, { orderId: "o-1", total: 0 }, "as the schema of one of a list answers it");
      same(byWho.get("pattern")?.data, { orderId: "o-1" }, "as it was published");
      const event = byWho.get("pattern");
      same(event?.topic, `${scene.queue}.orders.order_placed`, "the topic");
      same(event?.metadata, { correlationId: id, source: "shop" }, "the metadata");
      truth(event?.appendedAt instanceof Date && !Number.isNaN(event.appendedAt.getTime()), "it has its time");
      same(event?.id, id, "the id");
    },
  ),

  scenario(
    "publish() of many answers their ids in order, and of JSON's null and nothing at all each stays what it is",
    async (scene) => {
      const { Noted } = eventsOf(scene);
      const seen = new Map<string, unknown>();
      const handler = subscribed(
        scene,
        "notes",
        Noted,
        ({ event }) => void seen.set(event.id, event.data ?? String(event.data)),
      );
      const orchestrator = await scene.working([handler]);
      const published = await orchestrator.publish([Noted(null), Noted(), Noted([null])]);
      for (const { id } of published) await settled(orchestrator, id, 1);
      same(
        published.map(({ id }) => seen.get(id)),
        ["null", "undefined", [null]],
        "what was delivered",
      );
      same(await orchestrator.publish([]), [], "of none");
    },
  ),

  scenario("publish() refuses what is wrong before any statement", async (scene) => {
    const { OrderPlaced, Noted } = eventsOf(scene);
    const orchestrator = scene.orchestrator([]);
    const { publish } = orchestrator;
    const error = (await rejection(publish([Noted(1), OrderPlaced({ orderId: 1 as never })]))) as Error & {
      code: string;
      issues: { path: string }[];
    };
    same([error.code, error.issues[0]?.path], ["ORCHESTRATUM_INVALID_DATA", "orderId"], "the code and the path");
    truth(error.message.includes(`event "${scene.queue}.orders.order_placed"`), error.message);
    const twin = crypto.randomUUID();
    const bad = [
      publish(Noted({ when: new Date(0) } as never)),
      publish(Noted("x".repeat(262_143))),
      publish(Noted(1, { id: "no" })),
      publish([Noted(1, { id: twin }), Noted(2), Noted(3, { id: twin.toUpperCase() })]),
      publish(Noted(1, { metadata: 3 as never })),
      publish(OrderPlaced as never),
      publish({} as never),
      publish(Noted(1), { db: {} as never }),
    ];
    for (const one of bad) truth((await rejection(one)).message.startsWith("Cannot publish"), "the message says what");
    same(await logOf(scene, orchestrator), [], "what was published");
    await publish(Noted("x".repeat(262_142)));
  }),

  scenario("publish() in the caller's transaction commits with it, or not at all", async (scene) => {
    const { Noted } = eventsOf(scene);
    const seen: unknown[] = [];
    const heard = signal();
    const handler = subscribed(scene, "notes", Noted, ({ event }) => {
      seen.push(event.data);
      heard.give();
    });
    const orchestrator = await scene.working([handler]);
    let lost = "";
    const failure = new Error("rolled back");
    const error = await rejection(
      scene.ground.transaction(async (db) => {
        lost = (await orchestrator.publish(Noted("lost"), { db })).id;
        throw failure;
      }),
    );
    same(error === failure, true, "the transaction failed with its own error");
    let kept = "";
    await scene.ground.transaction(async (db) => {
      kept = (await orchestrator.publish(Noted("kept"), { db })).id;
    });
    // A poll is a minute off here: this is the hint that follows the commit.
    await heard.got();
    await settled(orchestrator, kept, 1);
    same(seen, ["kept"], "what was delivered");
    same(await orchestrator.eventStatus(lost), undefined, "the event that was rolled back");
  }),

  scenario(
    "publish() that is repeated with its ids doubles neither events nor deliveries, and refuses other data",
    async (scene) => {
      const { Noted } = eventsOf(scene);
      const seen: unknown[] = [];
      const handler = subscribed(scene, "notes", Noted, ({ event }) => void seen.push(event.data));
      const orchestrator = await scene.working([handler]);
      const [a, b] = [crypto.randomUUID(), crypto.randomUUID()];
      await orchestrator.publish(Noted("a", { id: a }));
      await settled(orchestrator, a, 1);
      // One was published and delivered, the other is new.
      same(
        await orchestrator.publish([Noted("a", { id: a.toUpperCase() }), Noted("b", { id: b })]),
        [{ id: a }, { id: b }],
        "the answer",
      );
      await settled(orchestrator, b, 1);
      await Promise.all([orchestrator.publish(Noted("b", { id: b })), orchestrator.publish(Noted("b", { id: b }))]);
      same(seen, ["a", "b"], "what was delivered");
      const events = await logOf(scene, orchestrator);
      same(events.map(({ data }) => data).toSorted(), ["a", "b"], "the events");
      const error = await rejection(orchestrator.publish(Noted("other", { id: a })));
      same(error.code, "ORCHESTRATUM_EVENT_CONFLICT", "the code");
      same((error as { id?: string }).id, a, "the id");
    },
  ),

  scenario("finish() refuses options in the place of an output, and drops no event", async (scene) => {
    const { Noted } = eventsOf(scene);
    const stream = `finished_${scene.queue}`;
    const plain = defineCommand(scene.define({ name: "plain", retries: 0 }));
    let refused: Error | undefined;
    const handler = plain.handle(async ({ finish }) => {
      const options = { append: [{ stream, events: Noted("kept") }] };
      refused = await rejection(scene.ground.transaction(async (db) => void (await finish(db, options as never))));
      await scene.ground.transaction(async (db) => void (await finish(db, undefined, options)));
    });
    const { push, waitFor, readStream } = await scene.working([handler]);
    const { id } = await push(plain());
    same((await waitFor(id, limited)).status, "succeeded", "the status");
    same(refused?.name, "TypeError", "what was refused");
    truth(refused?.message.includes("finish(db, undefined, { append })"), `it says the way out: ${refused?.message}`);
    same(
      (await readStream(stream)).map(({ data }) => data),
      ["kept"],
      "the stream",
    );
  }),

  scenario("a subscriber that fails holds up no other, and its dead letter can be retried", async (scene) => {
    const { OrderPlaced } = eventsOf(scene);
    let isBroken = true;
    const confirmed: string[] = [];
    const orchestrator = await scene.working([
      subscribed(scene, "confirmation", OrderPlaced, ({ event }) => void confirmed.push(event.id)),
      subscribed(
        scene,
        "inventory",
        OrderPlaced,
        () => {
          if (isBroken) throw new Error("no inventory");
        },
        { retries: 2 },
      ),
    ]);
    const { id } = await orchestrator.publish(OrderPlaced({ orderId: "o-1" }));
    const failed = await settled(orchestrator, id, 2);
    same(failed.status, "failed", "the status");
    same(
      statesOf(failed),
      [
        ["confirmation", "succeeded", 1],
        ["inventory", "failed", 3],
      ],
      "the deliveries",
    );
    const dead = failed.deliveries[1];
    same(dead?.error?.message, "no inventory", "the error");

    const subscription = `inventory_${scene.queue}`;
    const { commands } = await orchestrator.deadLetters({ subscription });
    same(
      commands.map((command) => [command.id, command.name, command.error?.message]),
      [[dead?.commandId, `deliver:${subscription}`, "no inventory"]],
      "the dead letters",
    );
    const letter = await orchestrator.deadLetter(dead?.commandId ?? "");
    same(
      letter?.trail.map(({ message, attempt }) => [message, attempt]),
      [1, 2, 3].map((attempt) => ["no inventory", attempt]),
      "its trail",
    );
    isBroken = false;
    same(await orchestrator.retryDeadLetters({ subscription }, { dryRun: true }), { count: 1, busy: 0 }, "the dry run");
    same(await orchestrator.retryDeadLetters({ subscription }, { by: "ada" }), { count: 1, busy: 0 }, "the retry");
    await eventually("it is handled", async () => (await orchestrator.eventStatus(id))?.status === "handled");
    same(confirmed, [id], "the other ran once");
    same((await orchestrator.deadLetters({ subscription })).commands, [], "the dead letters that are left");
    same(await orchestrator.deadLetter(dead?.commandId ?? ""), undefined, "a command that is none any more");
  }),

  scenario("retryDeadLetters() keeps its pace, and dropDeadLetters() deletes", async (scene) => {
    const { Noted } = eventsOf(scene);
    const ran: number[] = [];
    let isBroken = true;
    const handler = subscribed(
      scene,
      "notes",
      Noted,
      () => {
        ran.push(performance.now());
        if (isBroken) throw new Error("broken");
      },
      { retries: 0 },
    );
    const orchestrator = await scene.working([handler]);
    const published = await orchestrator.publish([1, 2, 3, 4, 5, 6].map((n) => Noted(n)));
    for (const { id } of published) await settled(orchestrator, id, 1);
    const subscription = `notes_${scene.queue}`;
    isBroken = false;
    ran.length = 0;
    const counts: number[] = [];
    const startedAt = performance.now();
    const paced = await orchestrator.retryDeadLetters(
      { subscription, errorText: "BROKEN" },
      { perSecond: 10, onProgress: (count) => counts.push(count) },
    );
    same([paced, counts], [{ count: 6, busy: 0 }, [6]], "what was retried");
    // Two at once, then two more after 200 ms, and so on.
    truth(performance.now() - startedAt > 350, "six of ten a second take longer than 350 ms");
    await eventually("all have run", () => ran.length === 6);

    isBroken = true;
    const more = await orchestrator.publish([7, 8, 9].map((n) => Noted(n)));
    const ids: string[] = [];
    for (const { id } of more) ids.push((await settled(orchestrator, id, 1)).deliveries[0]?.commandId ?? "");
    const [first = "", second = ""] = ids;
    const succeeded = (await orchestrator.eventStatus(published[0]?.id ?? ""))?.deliveries[0]?.commandId ?? "";
    same(await orchestrator.dropDeadLetters(first, { by: "ada" }), "dropped", "one");
    same(await orchestrator.get(first), undefined, "what was dropped");
    same([...(await orchestrator.dropDeadLetters([first, succeeded])).values()], ["unknown", "kept"], "what is none");
    same(await orchestrator.dropDeadLetters({ subscription, parentId: second }), { count: 0, busy: 0 }, "none");
    same(await orchestrator.dropDeadLetters({ subscription }), { count: 2, busy: 0 }, "the rest");
    same((await orchestrator.deadLetters({ subscription })).commands, [], "what is left");
    const acts = (await orchestrator.acts({ limit: 1_000 })).filter(({ kind, target }) => {
      return kind === "drop" && JSON.stringify(target).match(new RegExp(`${first}|${subscription}`));
    });
    same(
      acts.map(({ by, affected }) => [by, affected]),
      [
        [undefined, 2],
        ["ada", 1],
      ],
      "the acts",
    );
    same(await orchestrator.retryDeadLetters(succeeded), "retried", "what is asked for by id");
    const controller = new AbortController();
    controller.abort(new Error("enough"));
    same(
      (await rejection(orchestrator.retryDeadLetters(ids, { signal: controller.signal }))).message,
      "enough",
      "the reason",
    );
    for (const perSecond of [0, -1, Number.NaN, "1"]) {
      const error = await rejection(orchestrator.retryDeadLetters({}, { perSecond: perSecond as number }));
      truth(error.message.includes("perSecond must be a number over 0"), error.message);
    }
  }),

  scenario("a handler's and a hook's events commit with the outcome, caused by their command", async (scene) => {
    const { OrderPlaced, OrderShipped, Noted } = eventsOf(scene);
    const seen: RecordedEvent[] = [];
    const place = defineCommand(scene.define({ name: "place", retries: 1, output: v.string() }));
    let promised: string[] = [];
    const orchestrator = await scene.working([
      place.handle(
        ({ publish, attempt }) => {
          const ids = publish(OrderPlaced({ orderId: "o-1" }), Noted(`attempt ${attempt}`));
          if (attempt === 1) throw new Error("not yet");
          promised = ids.map(({ id }) => id);
          return "o-1";
        },
        {
          onSuccess: ({ output }) => [
            OrderShipped({ orderId: output }),
            place.name.length > 0 ? Noted("hook") : Noted(),
          ],
        },
      ),
      subscribed(scene, "all", `${scene.queue}.#`, ({ event }) => void seen.push(event)),
    ]);
    const actor = { id: "u-1", type: "user" };
    const traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    const { id } = await orchestrator.push(place(null, { metadata: { actor, source: "shop", traceparent } }));
    await orchestrator.waitFor(id, limited);
    await eventually("four events were delivered", () => seen.length === 4);
    same(
      seen.map(({ topic, data }) => `${topic.split(".").at(-1)} ${JSON.stringify(data)}`).toSorted(),
      ['noted "attempt 2"', 'noted "hook"', 'order_placed {"orderId":"o-1"}', 'order_shipped {"orderId":"o-1"}'],
      "the events: those of the attempt that failed are not among them",
    );
    truth(
      promised.every((one) => seen.some((event) => event.id === one)),
      "the ids were kept",
    );
    for (const event of seen) {
      same(
        event.metadata,
        { correlationId: id, actor, source: "shop", traceparent, causationId: id },
        `the metadata of ${event.topic}`,
      );
    }
    const status = await orchestrator.eventStatus(promised[0] ?? "");
    const delivery = await orchestrator.get(status?.deliveries[0]?.commandId ?? "");
    same(
      [delivery?.metadata.correlationId, delivery?.metadata.causationId, delivery?.metadata.actor, delivery?.parentId],
      [id, promised[0], actor, id],
      "of the delivery: the same chain, caused by the event, a child of the command",
    );
  }),

  scenario("onFailure and onCancellation publish, too", async (scene) => {
    const { Noted } = eventsOf(scene);
    const seen: unknown[] = [];
    const fail = defineCommand(scene.define({ name: "fail", retries: 0 }));
    const orchestrator = await scene.working([
      fail.handle(
        () => {
          throw new PermanentFailure("never");
        },
        { onFailure: () => Noted("failed"), onCancellation: () => [Noted("cancelled")] },
      ),
      subscribed(scene, "notes", Noted, ({ event }) => void seen.push(event.data)),
    ]);
    await orchestrator.push(fail());
    const { id } = await orchestrator.push(fail(null, { delayMs: 60_000 }));
    await orchestrator.cancel(id);
    await eventually("both were delivered", () => seen.length === 2);
    same(seen.toSorted(), ["cancelled", "failed"], "the events");
  }),

  scenario("an attempt whose lease was lost publishes nothing", async (scene) => {
    const { Noted } = eventsOf(scene);
    const slow = defineCommand(scene.define({ name: "slow" }));
    const started = signal();
    const go = signal();
    const handler = slow.handle(async ({ publish, fence }) => {
      if (fence === 1) {
        started.give();
        await go.got();
      }
      publish(Noted(`fence ${fence}`));
    });
    const orchestrator = await scene.working([handler]);
    const { id } = await orchestrator.push(slow());
    await started.got();
    // Somebody else takes it, as after a lease that expired.
    await scene.ground.driver.query(
      "update orchestratum.command set fence = fence + 1, leased_by = null, available_at = clock_timestamp() where id = $1::text::uuid",
      [id],
    );
    go.give();
    await eventually("the lease was lost", () => scene.seen("lease_lost").length === 1);
    orchestrator.wake([scene.queue]);
    await orchestrator.waitFor(id, limited);
    const events = await logOf(scene, orchestrator);
    same(
      events.map(({ data }) => data),
      ["fence 3"],
      "the events",
    );
  }),

  scenario(
    "finish(db, output) publishes and appends with the transaction, and a conflict leaves it usable",
    async (scene) => {
      const { OrderPlaced, Noted } = eventsOf(scene);
      const stream = `order-${scene.queue}`;
      const other = `audit-${scene.queue}`;
      const place = defineCommand(scene.define({ name: "place", retries: 0, output: v.string() }));
      const seen: RecordedEvent[] = [];
      const conflicts: unknown[] = [];
      const orchestrator = await scene.working([
        place.handle(async ({ publish, finish }) => {
          publish(Noted("with the outcome"));
          let ended: Awaited<ReturnType<typeof finish>> | undefined;
          await scene.ground.transaction(async (db) => {
            try {
              await finish(db, "wrong", {
                append: [
                  { stream, events: OrderPlaced({ orderId: "o-1" }), expectedVersion: 0 },
                  { stream: other, events: [Noted("audit")], expectedVersion: 7 },
                ],
              });
            } catch (error) {
              const { code, stream: where, currentVersion, expectedVersion } = error as Record<string, unknown>;
              conflicts.push([code, where, currentVersion, expectedVersion]);
            }
            ended = await finish(db, "right", {
              append: [
                { stream, events: OrderPlaced({ orderId: "o-1" }), expectedVersion: 0 },
                { stream: other, events: [Noted("audit")] },
              ],
            });
          });
          return ended as NonNullable<typeof ended>;
        }),
        subscribed(scene, "all", `${scene.queue}.#`, ({ event }) => void seen.push(event)),
      ]);
      const { id } = await orchestrator.push(place());
      const outcome = await orchestrator.waitFor(id, limited);
      same([outcome.status, outcome.status === "succeeded" && outcome.output], ["succeeded", "right"], "the outcome");
      same(conflicts, [["ORCHESTRATUM_STREAM_CONFLICT", other, 0, 7]], "the conflict");
      await eventually("three events were delivered", () => seen.length === 3);
      same(
        seen.map((event) => [event.stream ?? null, event.version ?? null, event.metadata.causationId]).toSorted(),
        [
          [null, null, id],
          [other, 1, id],
          [stream, 1, id],
        ].toSorted(),
        "the events: nothing of what met the conflict",
      );
      const finished = () => scene.seen("command_finished").find((one) => one.id === id);
      await eventually("its end is observed", () => finished() !== undefined);
      same(
        finished()?.sent,
        [
          { verb: "publish", name: Noted.topic, count: 1 },
          { verb: "append", name: OrderPlaced.topic, stream, count: 1 },
          { verb: "append", name: Noted.topic, stream: other, count: 1 },
        ],
        "what was sent with the outcome",
      );
    },
  ),

  scenario("finish(db, output) whose transaction is rolled back publishes and appends nothing", async (scene) => {
    const { Noted } = eventsOf(scene);
    const stream = `order-${scene.queue}`;
    const place = defineCommand(scene.define({ name: "place", retries: 0 }));
    const orchestrator = await scene.working([
      place.handle(async ({ publish, finish }) => {
        publish(Noted("published"));
        return await new Promise((resolve, reject) => {
          scene.ground
            .transaction(async (db) => {
              await finish(db, undefined, { append: [{ stream, events: Noted("appended") }] });
              throw new Error("rolled back");
            })
            .then(resolve, reject);
        });
      }),
    ]);
    const { id } = await orchestrator.push(place());
    same((await orchestrator.waitFor(id, limited)).status, "failed", "the outcome");
    same(await logOf(scene, orchestrator), [], "the events");
    same(await orchestrator.readStream(stream), [], "the stream");
    const finished = () => scene.seen("command_finished").find((one) => one.id === id);
    await eventually("its end is observed", () => finished() !== undefined);
    same([finished()?.verdict, finished()?.sent], ["failed", undefined], "what was observed");
  }),

  scenario("an event over 8 KiB is delivered by its id, and read when its delivery runs", async (scene) => {
    const { Noted, OrderPlaced } = eventsOf(scene);
    const seen: RecordedEvent[] = [];
    const handler = subscribed(scene, "all", [Noted, OrderPlaced], ({ event }) => void seen.push(event));
    const orchestrator = await scene.working([handler]);
    const large = "ü".repeat(100_000);
    const { id } = await orchestrator.publish(OrderPlaced({ orderId: large }));
    const { version, ids } = await orchestrator.append(`s-${scene.queue}`, [Noted(large)]);
    await settled(orchestrator, id, 1);
    const status = await settled(orchestrator, ids[0] as string, 1);
    same(version, 1, "the version");
    const byId = new Map(seen.map((event) => [event.id, event]));
    same(byId.get(id)?.data, { orderId: large, total: 0 }, "the data");
    same(byId.get(ids[0] as string)?.data, large, "the data of what was appended");
    same(
      [byId.get(ids[0] as string)?.stream, byId.get(ids[0] as string)?.version],
      [`s-${scene.queue}`, 1],
      "its place",
    );
    const delivery = await orchestrator.get(status.deliveries[0]?.commandId ?? "");
    truth(JSON.stringify(delivery?.input).length < 500, "the delivery is small");
  }),

  scenario("an event that the contract of a subscription refuses is its dead letter at once", async (scene) => {
    const topic = `${scene.queue}.changed`;
    const before = defineEvent({ topic });
    const now = defineEvent({ topic, data: v.object({ id: v.string() }) });
    const orchestrator = await scene.working([
      subscribed(scene, "strict", now, () => {}, { retries: 5 }),
      subscribed(scene, "lax", topic, () => {}),
    ]);
    const { id } = await orchestrator.publish(before({ id: 1 }));
    const status = await settled(orchestrator, id, 2);
    same(
      statesOf(status),
      [
        ["lax", "succeeded", 1],
        ["strict", "failed", 1],
      ],
      "the deliveries",
    );
    same(status.deliveries[1]?.error?.code, "ORCHESTRATUM_INVALID_EVENT", "the code");
  }),

  scenario("erase() takes a person's data out of the deliveries of a command's events, too", async (scene) => {
    const { Noted } = eventsOf(scene);
    const join = defineCommand(scene.define({ name: "join", retries: 0 }));
    const started = signal();
    const go = signal();
    const person = { email: "ada@example.com" };
    const orchestrator = await scene.working([
      join.handle(({ publish }) => void publish(Noted(person)), { onSuccess: () => Noted(person) }),
      subscribed(scene, "count", Noted, () => {}),
      subscribed(
        scene,
        "mail",
        Noted,
        async () => {
          started.give();
          await go.got();
          throw new Error(`No mailbox for ${person.email}`);
        },
        { retries: 0 },
      ),
    ]);
    const { push, waitFor, erase, list, get, eventStatus } = orchestrator;
    const { id } = await push(join(person, { metadata: { actor: { id: person.email, type: "user" } } }));
    await waitFor(id, limited);
    const deliveries = (await list({ parentId: id })).commands;
    same(deliveries.length, 4, "how many deliveries");
    await started.got();
    same(await erase(id), "running", "while a delivery runs");
    go.give();
    for (const delivery of deliveries) await waitFor(delivery.id, limited);
    same(await erase(id), "erased", "then");
    for (const one of [id as string, ...deliveries.map((delivery) => delivery.id as string)]) {
      const known = await get(one);
      truth(known !== undefined && !JSON.stringify(known).includes(person.email), `nothing is left in ${known?.name}`);
    }
    const event = (await get(deliveries[0]?.id ?? ""))?.metadata.causationId ?? "";
    const status = await eventStatus(event);
    same(status?.event.data, person, "the event is a fact, and stays");
    same(statesOf(status as EventStatus).length, 2, "its deliveries are known");
  }),

  scenario("eventStatus() goes from published over partially_handled to handled", async (scene) => {
    const { Noted } = eventsOf(scene);
    const go = signal();
    const orchestrator = await scene.working([
      subscribed(scene, "fast", Noted, () => {}),
      subscribed(scene, "slow", Noted, () => go.got()),
      subscribed(scene, "later", Noted, ({ attempt }) => (attempt > 5 ? undefined : snooze({ delayMs: 3_600_000 }))),
    ]);
    const lonely = await orchestrator.publish(defineEvent({ topic: `${scene.queue}.heard_by_nobody` })());
    const alone = await orchestrator.eventStatus(lonely.id);
    same([alone?.status, alone?.isComplete], ["published", true], "without subscribers");
    same(await orchestrator.eventStatus(crypto.randomUUID()), undefined, "of none");
    const { id } = await orchestrator.publish(Noted(1));
    await eventually("one is handled", async () => {
      const state = await orchestrator.eventStatus(id);
      const statuses = state?.deliveries.map(({ subscription, status }) => [short(subscription), status]);
      return (
        JSON.stringify([state?.status, statuses]) ===
        JSON.stringify([
          "partially_handled",
          [
            ["fast", "succeeded"],
            ["later", "scheduled"],
            ["slow", "running"],
          ],
        ])
      );
    });
    go.give();
    const later = (await orchestrator.eventStatus(id))?.deliveries.find(
      ({ subscription }) => short(subscription) === "later",
    );
    await orchestrator.cancel(later?.commandId ?? "");
    await eventually("the rest is handled", async () => (await orchestrator.eventStatus(id))?.status === "handled");
  }),

  scenario(
    "eventStatus() says neither that a dropped delivery was handled nor what history has forgotten",
    async (scene) => {
      const { Noted, OrderShipped } = eventsOf(scene);
      const fails = () => Promise.reject(new Error("no"));
      const orchestrator = await scene.working([
        subscribed(scene, "good", `${scene.queue}.#`, () => {}),
        subscribed(scene, "bad", Noted, fails, { retries: 0 }),
        subscribed(scene, "worse", Noted, fails, { retries: 0 }),
      ]);
      const { eventStatus, dropDeadLetters } = orchestrator;
      const told = async (id: string) => {
        const state = await eventStatus(id);
        return [state?.status, state?.isComplete, state?.deliveries.map(({ subscription }) => short(subscription))];
      };
      const [one, two] = (await orchestrator.publish([Noted(1), Noted(2)])) as [{ id: string }, { id: string }];
      const other = await orchestrator.publish(OrderShipped({ orderId: "o-1" }));
      const status = await settled(orchestrator, one.id, 3);
      await settled(orchestrator, two.id, 3);
      await settled(orchestrator, other.id, 1);
      same([status.status, status.isComplete], ["failed", true], "before a drop");
      const commandOf = (state: EventStatus, name: string) =>
        state.deliveries.find(({ subscription }) => short(subscription) === name)?.commandId ?? "";
      same(await dropDeadLetters(commandOf(status, "bad")), "dropped", "one");
      same(await told(one.id), ["failed", false, ["good", "worse"]], "with one dropped");
      same(await told(two.id), ["failed", true, ["bad", "good", "worse"]], "another event");
      await dropDeadLetters({ subscription: `worse_${scene.queue}` });
      same(await told(one.id), ["partially_handled", false, ["good"]], "with two dropped");
      same(await told(two.id), ["failed", false, ["bad", "good"]], "the other, with one dropped by a filter");
      await dropDeadLetters({ subscription: `bad_${scene.queue}` });
      same(await told(two.id), ["partially_handled", false, ["good"]], "the other, with two dropped");
      same(await told(other.id), ["handled", true, ["good"]], "what those subscriptions did not get");

      const { driver } = scene.ground;
      const old =
        "update orchestratum.event set appended_at = appended_at - interval '8 days' where id = $1::text::uuid";
      await driver.query(old, [other.id]);
      same(await told(other.id), ["handled", false, ["good"]], "of an old event");
      const id = commandOf((await eventStatus(other.id)) as EventStatus, "good");
      await driver.query("delete from orchestratum.history where id = $1::text::uuid", [id]);
      same(await told(other.id), ["published", false, []], "after history's retention");

      await orchestrator.removeSubscription(`bad_${scene.queue}`, { deliveries: "keep" });
      await orchestrator.removeSubscription(`worse_${scene.queue}`, { deliveries: "keep" });
      same(await told(one.id), ["partially_handled", false, ["good"]], "after the removal");
    },
  ),

  scenario(
    "eventStatus() tells by when a subscription was added whether a drop took a delivery of its",
    async (scene) => {
      const { Noted, OrderShipped } = eventsOf(scene);
      const orchestrator = await scene.working([subscribed(scene, "good", `${scene.queue}.#`, () => {})]);
      const told = async (id: string) => {
        const state = await orchestrator.eventStatus(id);
        return [state?.status, state?.isComplete, state?.deliveries.map(({ subscription }) => short(subscription))];
      };
      const one = await orchestrator.publish(Noted(1));
      const other = await orchestrator.publish(OrderShipped({ orderId: "o-1" }));
      for (const { id } of [one, other]) await settled(orchestrator, id, 1);
      const [{ position = 0 }] = (await logOf(scene, orchestrator)) as [RecordedEvent];
      const late = subscribed(scene, "late", Noted, () => Promise.reject(new Error("no")), { retries: 0 });
      await (await scene.working([late])).addSubscription(late, { from: position - 1 });
      await settled(orchestrator, one.id, 2);
      await orchestrator.dropDeadLetters({ queue: scene.queue });
      same(await told(one.id), ["partially_handled", false, ["good"]], "what was delivered late, and dropped");
      same(await told(other.id), ["handled", true, ["good"]], "what it did not get");
      await orchestrator.addSubscription(subscribed(scene, "later", OrderShipped, () => {}));
      same(await told(other.id), ["handled", true, ["good"]], "what one would have got that was not there yet");
    },
  ),

  scenario("a subscription lives on without workers, and one that was removed stays removed", async (scene) => {
    const { Noted } = eventsOf(scene);
    const seen: unknown[] = [];
    const handler = subscribed(scene, "notes", Noted, ({ event }) => void seen.push(event.data), {
      retries: 7,
      priority: 2,
    });
    const name = `notes_${scene.queue}`;
    const first = await scene.working([handler]);
    const [state] = (await first.subscriptions()).filter((one) => one.name === name);
    same(
      [state?.patterns, state?.queue, state?.retries, state?.priority, state?.timeoutMs, state?.removedAt],
      [[Noted.topic], scene.queue, 7, 2, 60_000, undefined],
      "what is stored",
    );
    await first.stop();
    const publisher = scene.orchestrator([]);
    const waiting = await publisher.publish(Noted("meanwhile"));
    const kept = (await publisher.eventStatus(waiting.id))?.deliveries[0];
    same(kept?.status, "pending", "its delivery waits");
    same(
      await publisher.removeSubscription(name, { deliveries: "keep" }),
      { removed: true, cancelled: undefined },
      "the removal",
    );
    same((await publisher.publish(Noted("unheard"))) !== undefined, true, "another event");
    const second = await scene.working([handler]);
    await settled(second, waiting.id, 1);
    same(seen, ["meanwhile"], "what was delivered");
    truth((await second.subscriptions()).find((one) => one.name === name)?.removedAt, "it stays removed");
    same(
      await publisher.removeSubscription(name, { deliveries: "keep" }),
      { removed: false, cancelled: undefined },
      "another removal",
    );

    await second.stop();
    same(await publisher.addSubscription(handler), { position: undefined }, "added again");
    const { id } = await publisher.publish(Noted("to be cancelled"));
    same(
      await publisher.removeSubscription(name, { deliveries: "cancel", by: "ada" }),
      { removed: true, cancelled: { count: 1, busy: 0 } },
      "the removal with its deliveries",
    );
    same((await publisher.eventStatus(id))?.deliveries[0]?.status, "cancelled", "the delivery");
    const error = await rejection(publisher.removeSubscription(name, {} as never));
    truth(error.message.includes('deliveries must be "keep" or "cancel"'), error.message);
  }),

  scenario("the newest start decides what a subscription is", async (scene) => {
    const { Noted, OrderShipped } = eventsOf(scene);
    const name = `notes_${scene.queue}`;
    const stored = async (orchestrator: Orchestrator) => {
      const state = (await orchestrator.subscriptions()).find((one) => one.name === name);
      return [state?.patterns, state?.retries];
    };
    const older = await scene.working([subscribed(scene, "notes", Noted, () => {})]);
    await scene.working([subscribed(scene, "notes", [OrderShipped, Noted], () => {}, { retries: 9 })]);
    same(await stored(older), [[Noted.topic, OrderShipped.topic].toSorted(), 9], "after the second start");
    // Another worker of the first process registers again, as its first does once a minute.
    await scene.work(older);
    same(await stored(older), [[Noted.topic, OrderShipped.topic].toSorted(), 9], "after the first registered again");
    await scene.working([subscribed(scene, "notes", OrderShipped, () => {})]);
    same(await stored(older), [[OrderShipped.topic], 3], "after the third start");
  }),

  scenario(
    "addSubscription() from a position waits for others who place events no longer than it may",
    async (scene) => {
      const { Noted } = eventsOf(scene);
      const { driver } = scene.ground;
      const database: Driver = {
        ...driver,
        // As where somebody else has the head of the log, and does not come to an end.
        async query(text, params, options) {
          if (text.includes("sequence_events")) return [{ placed: 0, head: "0", busy: true }] as never;
          return await driver.query(text, params, options);
        },
      };
      await using orchestrator = createOrchestrator({ database });
      await orchestrator.publish(Noted(1));
      const handler = subscribed(scene, "notes", Noted, () => {});
      const error = await rejection(orchestrator.addSubscription(handler, { from: 0, waitMs: 500 }));
      truth(error.message.startsWith("Cannot fill up subscription"), error.message);
      same((await orchestrator.readAll({ topics: `${scene.queue}.#` })).more, true, "whether there may be more");
      await scene.orchestrator([]).addSubscription(handler, { from: 0 });
    },
  ),

  scenario(
    "addSubscription() from a position fills up from the past, and meets what is delivered live once",
    async (scene) => {
      const { Noted } = eventsOf(scene);
      const publisher = scene.orchestrator([]);
      const name = "filled";
      const counts = new Map<string, number>();
      const handler = subscribed(scene, name, Noted, ({ event }) => {
        counts.set(event.id, (counts.get(event.id) ?? 0) + 1);
      });
      const past = await publisher.publish(Array.from({ length: 30 }, (_, n) => Noted(n)));
      const [{ position: begin = 0 }] = (await logOf(scene, publisher)) as [RecordedEvent];
      const from = begin - 1;
      await publisher.append(`s-${scene.queue}`, [Noted("appended")]);
      const orchestrator = await scene.working([handler]);
      // Live before anything is filled up, and while it is.
      const before = await publisher.publish(Array.from({ length: 10 }, (_, n) => Noted(`before ${n}`)));
      for (const { id } of before.slice(0, 5)) await settled(orchestrator, id, 1);
      const [filled, during] = await Promise.all([
        orchestrator.addSubscription(handler, { from }),
        publisher.publish(Array.from({ length: 10 }, (_, n) => Noted(`during ${n}`))),
      ]);
      truth((filled.position ?? 0) >= from + 41, "it came to what was there");
      const again = await orchestrator.addSubscription(handler, { from: String(from) });
      truth((again.position ?? 0) >= (filled.position ?? 0), "it can be repeated");
      const after = await publisher.publish(Noted("after"));
      for (const { id } of [...past, ...before, ...during, after]) await settled(orchestrator, id, 1);
      await eventually("what was appended is delivered", () => counts.size === 52);
      same(
        [...counts.values()].every((count) => count === 1),
        true,
        "each was delivered once",
      );
      for (const wrong of [-1, 1.5, "x"]) {
        truth(
          (await rejection(orchestrator.addSubscription(handler, { from: wrong }))).message.includes("from must be"),
          "refused",
        );
      }
      await rejection(orchestrator.addSubscription({} as Handler));
    },
  ),

  scenario("a delivery's handler follows up, publishes, snoozes, and is retried by its own backoff", async (scene) => {
    const { Noted, OrderPlaced } = eventsOf(scene);
    const follow = defineCommand(scene.define({ name: "follow", input: v.string() }));
    const followed = signal<string>();
    const chained = signal<RecordedEvent>();
    const attempts: number[] = [];
    const orchestrator = await scene.working([
      follow.handle(({ input }) => followed.give(input)),
      subscribed(scene, "first", OrderPlaced, ({ event, push, publish, attempt, name }) => {
        attempts.push(attempt);
        if (attempts.length === 1) return snooze({ delayMs: 1 });
        if (attempts.length === 2) throw new Error("again");
        push(follow((event.data as { orderId: string }).orderId));
        publish(Noted(name));
      }),
      subscribed(scene, "second", Noted, ({ event }) => chained.give(event)),
    ]);
    const { id } = await orchestrator.publish(OrderPlaced({ orderId: "o-1" }));
    same(await followed.got(), "o-1", "the follow-up");
    const event = await chained.got();
    same(attempts, [1, 1, 2], "the attempts");
    const delivery = (await orchestrator.eventStatus(id))?.deliveries[0]?.commandId;
    same(
      [event.data, event.metadata.correlationId, event.metadata.causationId],
      [`deliver:first_${scene.queue}`, id, delivery],
      "the chain",
    );
  }),
];
