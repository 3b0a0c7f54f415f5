import { expect, test } from "vitest";
import { queries } from "../../src/sql.generated.ts";
import { newId, type Session, useSessions } from "./session.ts";

const sessions = useSessions();

interface NewEvent {
  readonly id?: string;
  readonly topic: string;
  readonly data?: unknown;
  readonly null_data?: boolean;
  readonly metadata?: unknown;
  readonly parent_id?: string;
}

/** Answers the queues that are hinted at. */
async function publish(session: Session, events: readonly NewEvent[], repeat = false): Promise<string[]> {
  const rows = await session.rows<{ queue: string }>(queries.publishBatch, [
    JSON.stringify(events.map((event) => ({ id: newId(), ...event }))),
    repeat,
  ]);
  return rows.map(({ queue }) => queue);
}

async function subscribe(
  session: Session,
  subscriptions: readonly { name: string; patterns: readonly string[]; queue?: string }[],
  mode = "add",
): Promise<void> {
  const rows = subscriptions.map((one) => ({
    queue: one.name,
    priority: 5,
    max_attempts: 4,
    timeout_ms: 60_000,
    ...one,
  }));
  await session.rows(queries.registerSubscriptions, [JSON.stringify(rows), mode]);
}

const countOf = async (session: Session, what: string): Promise<number> =>
  (await session.row<{ count: number }>(`select count(*)::int as count from ${what}`)).count;

const deliveriesTo = (session: Session, name: string) =>
  session.rows<{ id: string; queue: string; event: string; metadata: unknown; parent_id: string | null }>(
    `select c.id::text as id, c.queue, c.input ->> 'id' as event, c.metadata, c.parent_id::text as parent_id
      from orchestratum.command c where c.name = 'deliver:' || $1::text order by c.available_at`,
    [name],
  );

/** As a person would write it: level by level. */
function matches(pattern: string, topic: string): boolean {
  const wanted = pattern.split(".");
  const levels = topic.split(".");
  if (wanted.at(-1) === "#") {
    wanted.pop();
    if (levels.length < wanted.length) return false;
  } else if (levels.length !== wanted.length) {
    return false;
  }
  return wanted.every((level, index) => level === "*" || level === levels[index]);
}

test("topic_patterns() gives exactly the patterns that match a topic, once each", async () => {
  const { one } = sessions;
  let seed = 4_711;
  const random = (below: number): number => {
    seed = (seed * 1_103_515_245 + 12_345) % 2 ** 31;
    return Math.floor((seed / 2 ** 31) * below);
  };
  const level = (): string => ["a", "b", "c"][random(3)] ?? "";
  const topic = (): string => Array.from({ length: 1 + random(8) }, level).join(".");
  const pattern = (): string => {
    const levels = Array.from({ length: random(9) }, () => (random(3) === 0 ? "*" : level()));
    return levels.length === 0 || (levels.length < 8 && random(2) === 0)
      ? [...levels, "#"].join(".")
      : levels.join(".");
  };
  const topics = Array.from({ length: 60 }, topic);
  // Some that are near to a topic, since of random ones few match.
  const near = topics.flatMap((near) => {
    const levels = near.split(".").map((one) => (random(2) === 0 ? "*" : one));
    return [levels.join("."), [...levels.slice(0, random(levels.length + 1)), "#"].join(".")];
  });
  const patterns = [...Array.from({ length: 300 }, pattern), ...near];
  let matched = 0;
  for (const given of topics) {
    const rows = await one.rows<{ p: string }>("select p from orchestratum.topic_patterns($1::text) p", [given]);
    const found = new Set(rows.map(({ p }) => p));
    expect(found.size).toBe(rows.length);
    const levels = given.split(".").length;
    expect(found.size).toBe(2 ** levels + 2 ** (levels + 1) - 1);
    for (const wanted of patterns) {
      if (matches(wanted, given)) matched += 1;
      expect(found.has(wanted), `${wanted} and ${given}`).toBe(matches(wanted, given));
    }
  }
  expect(matched).toBeGreaterThan(200);
});

test("delivery_id() is the same for ever, begins as the event's id does, and differs for each subscription", async () => {
  const { one } = sessions;
  const event = "0192c3a0-1234-7abc-8def-0123456789ab";
  const { a, b, c } = await one.row<{ a: string; b: string; c: string }>(
    `select orchestratum.delivery_id($1::text::uuid, 'x')::text as a, orchestratum.delivery_id($1::text::uuid, 'y')::text as b,
        orchestratum.delivery_id('0192c3a0-1234-7abc-8def-0123456789ac', 'x')::text as c`,
    [event],
  );
  // Written down: another release must not deliver anew what this one has delivered.
  expect(a).toBe("0192c3a0-1234-8caa-8f0c-2bbe86622d9a");
  expect(new Set([a, b, c]).size).toBe(3);
});

test("publish_batch() pushes one delivery a subscription, whatever number of its patterns match", async () => {
  const { one, newQueue } = sessions;
  const [both, other] = [newQueue(), newQueue()];
  await subscribe(one, [
    { name: both, patterns: [`${both}.#`, `${both}.*`, `${both}.placed`], queue: "shared" },
    { name: other, patterns: ["elsewhere"] },
  ]);
  const parent = newId();
  const events = [
    { id: newId(), topic: `${both}.placed`, data: { a: 1e300 }, metadata: { source: "shop" }, parent_id: parent },
    { id: newId(), topic: `${both}.shipped` },
  ];
  expect(await publish(one, events)).toEqual(["shared"]);
  for (const { id, topic } of events)
    expect(await countOf(one, `orchestratum.event e where e.id = '${id}' and e.topic = '${topic}'`)).toBe(1);
  const deliveries = await deliveriesTo(one, both);
  expect(deliveries).toMatchObject([
    {
      event: events[0]?.id,
      parent_id: parent,
      metadata: { source: "shop", correlationId: events[0]?.id, causationId: events[0]?.id },
    },
    { event: events[1]?.id, parent_id: null, metadata: { correlationId: events[1]?.id, causationId: events[1]?.id } },
  ]);
  expect(await deliveriesTo(one, other)).toEqual([]);
});

test("a delivery has a copy of an event of up to 8 KiB of data and metadata, live or filled up, and else its id", async () => {
  const { one, newQueue } = sessions;
  const topic = newQueue();
  const [live, late] = [`${topic}_live`, `${topic}_late`];
  await subscribe(one, [{ name: live, patterns: [topic] }]);
  const metadata = { source: "café" };
  const room = 8_192 - Buffer.byteLength(JSON.stringify(metadata)) - '"'.length * 2;
  const [full, over, plain] = [newId(), newId(), newId()];
  await publish(one, [
    { id: full, topic, data: "x".repeat(room), metadata },
    { id: over, topic, data: "x".repeat(room + 1), metadata },
    // Without metadata, and of two bytes a letter.
    { id: plain, topic, data: "é".repeat(4_095) },
  ]);
  await one.rows(queries.sequenceEvents, [1_000]);
  await subscribe(one, [{ name: late, patterns: [topic] }]);
  const { until } = await one.row<{ until: string }>(
    "select max(p.position)::text as until from orchestratum.event_position p",
  );
  await one.rows(queries.fillSubscription, [late, "0", until, 1_000]);
  for (const name of [live, late]) {
    const inputs = await one.rows<{ id: string; stored: boolean; bytes: number | null }>(
      `select c.input ->> 'id' as id, coalesce((c.input ->> 'stored')::boolean, false) as stored,
          octet_length((c.input -> 'data')::text) as bytes
        from orchestratum.command c where c.name = 'deliver:' || $1::text order by c.available_at`,
      [name],
    );
    expect(inputs, name).toEqual([
      { id: full, stored: false, bytes: room + 2 },
      { id: over, stored: true, bytes: null },
      { id: plain, stored: false, bytes: 8_192 },
    ]);
  }
});

test("publish_batch() of 1,000 subscriptions reads no more of them than match", async () => {
  const { one, newQueue } = sessions;
  const prefix = newQueue();
  const session = one;
  await session.rows("set plan_cache_mode = force_generic_plan");
  // On the empty table first, as a publisher's session would, so that its plan is the one that stays.
  await publish(session, [{ topic: `${prefix}.t0.placed` }]);
  await subscribe(
    session,
    Array.from({ length: 1_000 }, (_, n) => ({
      name: `${prefix}_${n}`,
      patterns: [`${prefix}.t${n}.*`],
      queue: prefix,
    })),
  );
  await session.rows("analyze orchestratum.subscription, orchestratum.subscription_pattern");
  const pages = async (events: readonly NewEvent[]): Promise<number> => {
    // Whatever other databases' DDL makes the server forget is read again, and counts: the least of three.
    const each: number[] = [];
    for (let time = 0; time < 3; time += 1) {
      const text = JSON.stringify(events.map((event) => ({ id: newId(), ...event })));
      const explained = await session.explain(
        `select * from orchestratum.publish_batch('${text.replaceAll("'", "''")}'::json)`,
      );
      each.push(explained.pages);
    }
    return Math.min(...each);
  };
  await pages([{ topic: `${prefix}.t1.placed` }]);
  const before = await countOf(session, "orchestratum.command");
  const few = await pages([{ topic: `${prefix}.t2.placed` }]);
  expect(await countOf(session, "orchestratum.command")).toBe(before + 3);
  // 23 patterns, each two or three pages of an index, and what an event and a delivery cost: a whole read of the 1,000 rows,
  // with a probe for each, would be thousands.
  expect(few).toBeLessThan(300);
  const hundred = await pages(Array.from({ length: 100 }, (_, n) => ({ topic: `${prefix}.t${n}.placed` })));
  expect(hundred).toBeLessThan(100 * 200);
});

test("publish_batch() that waits for its twin's transaction doubles nothing, and hints at what the twin has delivered", async () => {
  const { one, two, newQueue, waitsForLock } = sessions;
  const name = newQueue();
  await subscribe(one, [{ name, patterns: [name] }]);
  const event = { id: newId(), topic: name, data: [1] };
  await one.begin();
  await publish(one, [event], true);
  const second = publish(two, [event], true);
  await waitsForLock(two);
  await one.commit();
  expect(await second).toEqual([name]);
  expect(await deliveriesTo(one, name)).toHaveLength(1);
  expect(await countOf(one, `orchestratum.event e where e.topic = '${name}'`)).toBe(1);
  expect(await countOf(one, `orchestratum.event_inbox i where i.event_id = '${event.id}'`)).toBe(1);
});

test("publish_batch() refuses an id that stands for another topic, other data, or an event of a stream", async () => {
  const { one, newQueue } = sessions;
  const topic = newQueue();
  const event = { id: newId(), topic, data: { a: 1, b: 2 } };
  await publish(one, [event], true);
  expect(await publish(one, [{ ...event, data: { b: 2, a: 1 } }], true)).toEqual([]);
  for (const other of [
    { ...event, topic: "other" },
    { ...event, data: null },
    { id: event.id, topic, null_data: true },
  ]) {
    await expect(publish(one, [{ topic: "fresh" }, other], true)).rejects.toMatchObject({
      code: "OR002",
      detail: event.id,
    });
  }
  expect(await countOf(one, "orchestratum.event e where e.topic = 'fresh'")).toBe(0);
  const streamed = { id: newId(), topic };
  await one.rows(queries.append, [topic, 0, JSON.stringify([streamed])]);
  await expect(publish(one, [streamed], true)).rejects.toMatchObject({ code: "OR002" });
});

test("fill_subscription() takes out again what was delivered and finished before it", async () => {
  const { one, newQueue } = sessions;
  const name = newQueue();
  await subscribe(one, [{ name, patterns: [`${name}.#`] }]);
  const events = [1, 2, 3].map((n) => ({ id: newId(), topic: `${name}.t`, data: n }));
  await publish(one, events);
  await one.rows("select orchestratum.sequence_events(10000)");
  const { position } = await one.row<{ position: string }>("select position::text from orchestratum.event_head");
  const { commands } = await one.claim(name);
  const [first, second] = commands;
  if (!first || !second) expect.fail();
  await one.end("worker", { ...first, verdict: "succeeded" });
  await one.end("worker", { ...second, verdict: "failed" });
  // The third runs; a fourth was published when nobody had subscribed.
  const before = await deliveriesTo(one, name);
  const fill = () => one.rows(queries.fillSubscription, [name, "0", position, 1_000]);
  await fill();
  expect(await deliveriesTo(one, name)).toEqual(before);
  await one.rows("delete from orchestratum.command where name = 'deliver:' || $1::text", [name]);
  await fill();
  expect(await deliveriesTo(one, name)).toHaveLength(1);
  expect((await one.look(first.id)).status).toBe("succeeded");
  expect((await one.look(second.id)).status).toBe("failed");
});

test("open_publishers() names a transaction that published before a subscription was there, until it ends", async () => {
  const { one, two, three, newQueue } = sessions;
  const name = newQueue();
  const open = async (asked: readonly string[] | null = null) => {
    const rows = await two.rows<{ transaction: string; pid: number }>(queries.openPublishers, [
      asked && JSON.stringify(asked),
    ]);
    return rows.filter(({ pid }) => pid === one.pid);
  };
  expect(await open()).toEqual([]);
  await one.begin();
  await publish(one, [{ topic: name }]);
  await subscribe(two, [{ name, patterns: [name] }]);
  const [publisher] = await open();
  if (!publisher) expect.fail();
  await three.begin();
  expect(await open([publisher.transaction])).toHaveLength(1);
  await one.commit();
  await one.begin();
  await publish(one, [{ topic: name }]);
  expect(await open([publisher.transaction])).toEqual([]);
  await one.commit();
  expect(await deliveriesTo(one, name)).toHaveLength(1);
});

test("finish_publishing() publishes the events of accepted successes, and of nothing else", async () => {
  const { one, two, newQueue } = sessions;
  const queue = newQueue();
  await subscribe(one, [{ name: queue, patterns: [`${queue}.#`], queue: `${queue}-deliveries` }]);
  const [good, failed, lost, locked] = await one.leaseNow(queue, [{}, {}, {}, {}]);
  if (!good || !failed || !lost || !locked) expect.fail();
  const events = (what: string) => [{ id: newId(), topic: `${queue}.${what}`, parent_id: good.id }];
  const outcomes = [
    { ...good, verdict: "succeeded", events: events("good") },
    { ...failed, verdict: "failed", events: events("failed") },
    { ...lost, fence: lost.fence + 1, verdict: "succeeded", events: events("lost") },
    { ...locked, verdict: "succeeded", events: events("locked") },
  ];
  const finish = async () => {
    const rows = await one.rows<{ id: string | null; result: string; queue: string | null }>(queries.finishPublishing, [
      "worker",
      JSON.stringify(outcomes),
    ]);
    return {
      results: [good, failed, lost, locked].map(({ id }) => rows.find((row) => row.id === id)?.result),
      due: rows.filter(({ id }) => id === null).map((row) => row.queue),
    };
  };
  await two.lock(locked.id);
  // What is accepted is not named.
  expect(await finish()).toEqual({
    results: [undefined, undefined, "missing", "busy"],
    due: [`${queue}-deliveries`],
  });
  await two.rollback();
  // The same batch again, as after a lost reply: what was accepted publishes nothing more.
  expect(await finish()).toEqual({
    results: ["missing", "missing", "missing", undefined],
    due: [`${queue}-deliveries`],
  });
  const rows = await one.rows<{ topic: string }>(
    "select e.topic from orchestratum.event e where e.topic like $1::text || '.%' order by e.topic",
    [queue],
  );
  expect(rows.map(({ topic }) => topic)).toEqual([`${queue}.good`, `${queue}.locked`]);
  const deliveries = await deliveriesTo(one, queue);
  expect(deliveries.map(({ parent_id }) => parent_id)).toEqual([good.id, good.id]);
});

test("append_all() appends to all streams or to none, and the transaction goes on", async () => {
  const { one, newQueue } = sessions;
  const name = newQueue();
  const [a, b] = [`${name}_a`, `${name}_b`];
  const event = (topic: string) => ({ id: newId(), topic });
  await one.begin();
  const all = (expected: number) =>
    one.rows<{ stream: string; version: number; conflict: boolean }>(queries.appendAll, [
      JSON.stringify([
        { stream: b, expected_version: expected, events: [event(b)] },
        { stream: a, expected_version: 0, events: [event(a), event(a)] },
      ]),
    ]);
  expect((await all(3)).find(({ conflict }) => conflict)).toMatchObject({ stream: b, version: 0 });
  expect(await countOf(one, `orchestratum.stream s where s.name in ('${a}', '${b}')`)).toBe(0);
  expect((await all(0)).filter(({ stream }) => stream !== null)).toMatchObject([
    { stream: a, version: 2, conflict: false },
    { stream: b, version: 1, conflict: false },
  ]);
  await one.commit();
  expect(await countOf(one, `orchestratum.event e where e.stream in ('${a}', '${b}')`)).toBe(3);
});

test("a repeated append answers the version and delivers once", async () => {
  const { one, newQueue } = sessions;
  const stream = newQueue();
  await subscribe(one, [{ name: stream, patterns: [stream] }]);
  const events = JSON.stringify([
    { id: newId(), topic: stream },
    { id: newId(), topic: stream },
  ]);
  const append = (query: string) =>
    one.rows<{ version: number | null; queue: string | null }>(query, [stream, 0, events]);
  expect(await append(queries.append)).toMatchObject([{ version: 2 }, { version: null, queue: stream }]);
  // The hint may have been lost with the reply.
  expect(await append(queries.appendAgain)).toMatchObject([{ version: 2 }, { version: null, queue: stream }]);
  expect(await deliveriesTo(one, stream)).toHaveLength(2);
});

test("fill_subscription() delivers what it has a pattern for, and of what is large no copy", async () => {
  const { one, newQueue } = sessions;
  const name = newQueue();
  const event = (topic: string, data: unknown) => ({ id: newId(), topic, data });
  const small = event(`${name}.small`, { n: 1 });
  const large = event(`${name}.large`, "x".repeat(9_000));
  const nothing = { id: newId(), topic: `${name}.large` };
  const empty = { id: newId(), topic: `${name}.small`, null_data: true };
  await publish(one, [small, event(`other.${name}`, "x".repeat(9_000)), large, nothing, empty]);
  await subscribe(one, [{ name, patterns: [`${name}.#`, `*.small`] }]);
  await one.rows("select orchestratum.sequence_events(10000)");
  const { position } = await one.row<{ position: string }>("select position::text from orchestratum.event_head");
  await one.rows(queries.fillSubscription, [name, "0", position, 1_000]);
  const rows = await one.rows<{ input: Record<string, unknown> }>(
    "select c.input from orchestratum.command c where c.name = 'deliver:' || $1::text order by c.available_at",
    [name],
  );
  // What there is not is left out: JSON's null is data, and no data is no key.
  const appended_at = expect.stringMatching(/^2\d{3}-\d\d-\d\dT[0-9:.]+\+00:00$/);
  expect(rows.map(({ input }) => input)).toEqual([
    { id: small.id, topic: small.topic, data: { n: 1 }, appended_at },
    { id: large.id, topic: large.topic, stored: true },
    { id: nothing.id, topic: nothing.topic, appended_at },
    { id: empty.id, topic: empty.topic, data: null, appended_at },
  ]);
  expect(rows.map(({ input }) => "data" in input)).toEqual([true, false, false, true]);
});

test("an append with ids that are there already is a repeat as a whole, or refused", async () => {
  const { one, newQueue } = sessions;
  const stream = newQueue();
  const event = (data: unknown = 1, topic = stream) => ({ id: newId(), topic, data });
  const append = async (events: readonly object[], to = stream, expected: number | null = null) =>
    (await one.rows<{ version: number | null }>(queries.appendAgain, [to, expected, JSON.stringify(events)]))[0]
      ?.version;
  const [a, b, c] = [event(), event({ x: 1, y: [2] }), event()];
  expect(await append([a], stream, 0)).toBe(1);
  expect(await append([b, c], stream, 1)).toBe(3);
  expect(await append([b, c], stream, 1)).toBe(3);
  // JSON that is equal, and a part of what was appended.
  expect(await append([{ ...b, data: { y: [2], x: 1 } }], stream, 1)).toBe(2);
  const fresh = event();
  const published = event();
  await publish(one, [published]);
  const refused: [readonly { id: string }[], string, string?][] = [
    [[a, fresh], a.id],
    [[fresh, a], a.id],
    [[fresh, published], published.id],
    [[published], published.id],
    [[{ ...a, topic: `${stream}.other` }], a.id],
    [[{ ...a, data: 2 }], a.id],
    [[a], a.id, `${stream}_other`],
    [[c, b], c.id],
    [[a, c], a.id],
    [[fresh, fresh], fresh.id],
  ];
  for (const [events, detail, to] of refused) {
    await expect(append(events, to)).rejects.toMatchObject({ code: "OR002", detail });
  }
  expect(await countOf(one, `orchestratum.event e where e.topic like '${stream}%'`)).toBe(4);
});

test("an id that is there stands for one event, whatever slot a retention has meanwhile", async () => {
  const { one, newQueue } = sessions;
  const stream = newQueue();
  const event = () => ({ id: newId(), topic: stream });
  const append = (events: readonly object[], to = stream) =>
    one.rows<{ version: number | null }>(queries.appendAgain, [to, null, JSON.stringify(events)]);
  const [appended, published] = [event(), event()];
  await append([appended]);
  await publish(one, [published]);
  await one.rows("update orchestratum.setting set keep_events = interval '30 days'");
  try {
    expect(await append([appended])).toMatchObject([{ version: 1 }]);
    await expect(append([event(), appended])).rejects.toMatchObject({ code: "OR002" });
    await expect(append([published], `${stream}_other`)).rejects.toMatchObject({ code: "OR002" });
    expect(await countOf(one, `orchestratum.event e where e.topic = '${stream}'`)).toBe(2);
  } finally {
    await one.rows("update orchestratum.setting set keep_events = null");
  }
});

test("register_subscriptions() leaves what was removed, and what a newer start has declared", async () => {
  const { one, newQueue } = sessions;
  const name = newQueue();
  const patterns = async () =>
    (await one.rows<{ name: string; patterns: string; removed_at: string | null }>(queries.listSubscriptions)).find(
      (row) => row.name === name,
    );
  await subscribe(one, [{ name, patterns: ["a", "b"] }], "see");
  await subscribe(one, [{ name, patterns: ["b", "c"] }], "declare");
  expect(await patterns()).toMatchObject({ patterns: '["b","c"]', removed_at: null });
  await subscribe(one, [{ name, patterns: ["a"] }], "see");
  expect(await patterns()).toMatchObject({ patterns: '["b","c"]' });
  expect(await one.row(queries.removeSubscription, [name])).toEqual({ changed: true });
  await subscribe(one, [{ name, patterns: ["a"] }], "declare");
  expect(await patterns()).toMatchObject({ patterns: "[]", removed_at: expect.any(String) });
  await subscribe(one, [{ name, patterns: ["a"] }], "add");
  expect(await patterns()).toMatchObject({ patterns: '["a"]', removed_at: null });
});
