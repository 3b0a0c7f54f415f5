import { expect, test } from "vitest";
import { jsonTime, newId, registerHandler, type Session, time, useSessions } from "./session.ts";

const sessions = useSessions();

/** What table history has of a command beyond what get() says. */
const slotOf = async (session: Session, id: string): Promise<number> =>
  (await session.row<{ slot: number }>("select slot from orchestratum.history where id = $1::text::uuid", [id])).slot;

const isLive = async (session: Session, id: string): Promise<boolean> =>
  (await session.rows("select from orchestratum.command where id = $1::text::uuid", [id])).length > 0;

/** Commands that a queue has, in the order in which they become due. */
async function waiting(session: Session, queue: string) {
  const rows = await session.rows<{ id: string }>(
    "select id::text as id from orchestratum.command where queue = $1::text order by available_at",
    [queue],
  );
  return await Promise.all(rows.map(({ id }) => session.look(id)));
}

test("finish() moves a command that succeeded to history, with all that is known of it", async () => {
  const { one, newQueue } = sessions;
  const [id, parent, queue] = [newId(), newId(), newQueue()];
  await one.push(
    `[{"id": "${id}", "name": "send", "version": 2, "queue": "${queue}", "priority": 5, "timeout_ms": 7, "max_attempts": 3,
      "parent_id": "${parent}", "input": {"b":  1e300}, "metadata": {"z":1}, "due_at": "${time(-5)}"}]`,
    { at: time(0) },
  );
  const [lease] = (await one.claim(queue, { at: time(10), worker: "w1" })).commands;
  const outcomes = `[{"id": "${id}", "fence": ${lease?.fence}, "verdict": "succeeded", "output": {"y":  1e300}}]`;
  expect(await one.finish("w1", outcomes, { at: time(20) })).toEqual({
    results: [{ id, fence: 1, result: "accepted" }],
    awaited: [],
    due: [],
  });
  expect(await isLive(one, id)).toBe(false);
  expect(await one.look(id)).toEqual({
    id,
    name: "send",
    version: 2,
    hook: null,
    queue,
    priority: 5,
    status: "succeeded",
    input: '{"b":  1e300}',
    output: '{"y":  1e300}',
    progress: null,
    metadata: '{"z":1}',
    trail: null,
    fence: 1,
    attempt: 1,
    max_attempts: 3,
    losses: 0,
    timeout_ms: 7,
    worker: "w1",
    parent_id: parent,
    created_at: time(0),
    due_at: time(-5),
    available_at: null,
    started_at: time(10),
    finished_at: time(20),
    cancel_requested_at: null,
    unknown_since: null,
  });
});

test.each(["failed", "cancelled", "timed_out", "not_found"])(
  "finish() ends a command as %s, with the error in its trail",
  async (verdict) => {
    const { one, newQueue } = sessions;
    const lease = await one.leaseOne(newQueue(), {}, { worker: "w1" });
    const error = { code: "broken", message: "It broke" };
    expect(await one.end("w1", { ...lease, verdict, error }, { at: time(5) })).toBe("accepted");
    expect(await one.look(lease.id)).toMatchObject({
      status: verdict,
      output: null,
      finished_at: time(5),
      worker: "w1",
    });
    expect(await one.trail(lease.id)).toEqual([
      { ...error, fence: 1, attempt: 1, worker: "w1", started_at: jsonTime(0), ended_at: jsonTime(5) },
    ]);
  },
);

test("finish() tells an output that is null from none, and a null input for a hook from none", async () => {
  const { one, newQueue } = sessions;
  const queue = newQueue();
  await registerHandler(one, { name: queue, hooks: ["failure"] });
  const [good, none, bad] = await one.lease(queue, [{}, {}, { name: queue, null_input: true }]);
  if (good === undefined || none === undefined || bad === undefined) expect.fail();
  expect([none.input, bad.input]).toEqual([null, "null"]);
  await one.finish("worker", [
    { id: good.id, fence: 1, verdict: "succeeded", null_output: true },
    { id: none.id, fence: 1, verdict: "succeeded" },
    { id: bad.id, fence: 1, verdict: "failed" },
  ]);
  expect([(await one.look(good.id)).output, (await one.look(none.id)).output]).toEqual(["null", null]);
  const [hook] = await waiting(one, queue);
  expect(JSON.parse(hook?.input ?? "")).toEqual({ input: null, status: "failed", error: null });
});

test("finish() refuses a verdict that it does not know", async () => {
  const { one, newQueue } = sessions;
  const lease = await one.leaseOne(newQueue());
  await expect(one.end("worker", { ...lease, verdict: "done" })).rejects.toMatchObject({ code: "23514" });
  expect(await one.look(lease.id, { at: time(0) })).toMatchObject({ status: "running" });
});

test("finish() retries after a delay, with the attempt used and the error in the trail", async () => {
  const { one, newQueue } = sessions;
  const queue = newQueue();
  const lease = await one.leaseOne(queue, {}, { worker: "w1" });
  const error = { message: "It broke" };
  const finished = await one.finish("w1", [{ ...lease, verdict: "retry", delay_ms: 1_000, error }], { at: time(5) });
  expect(finished).toEqual({
    results: [{ id: lease.id, fence: 1, result: "accepted" }],
    awaited: [],
    due: [{ queue, available_at: time(1_005) }],
  });
  expect(await one.look(lease.id, { at: time(6) })).toMatchObject({
    status: "scheduled",
    available_at: time(1_005),
    worker: null,
    attempt: 1,
    fence: 1,
  });
  expect(await one.trail(lease.id)).toMatchObject([{ ...error, fence: 1, attempt: 1, worker: "w1" }]);
  expect((await one.claim(queue, { at: time(1_005) })).commands).toMatchObject([{ fence: 2, attempt: 2, losses: 0 }]);
});

test.each(["snooze", "release", "unknown"])(
  "finish() hands the attempt back with %s, never the fence",
  async (verdict) => {
    const { one, newQueue } = sessions;
    const queue = newQueue();
    const lease = await one.leaseOne(queue, { max_attempts: 1 });
    expect(await one.end("worker", { ...lease, verdict, until: time(1_000) }, { at: time(5) })).toBe("accepted");
    expect(await one.look(lease.id)).toMatchObject({ attempt: 0, fence: 1, available_at: time(1_000), worker: null });
    const { commands } = await one.claim(queue, { at: time(1_000) });
    expect(commands).toMatchObject([{ purpose: "run", attempt: 1, fence: 2 }]);
  },
);

test("finish() makes nothing available before its clock", async () => {
  const { one, newQueue } = sessions;
  const leases = await one.lease(newQueue(), [{}, {}, {}, {}]);
  const times = [{ until: time(-1_000) }, { delay_ms: -1_000 }, {}, { until: time(7), delay_ms: 5 }];
  const outcomes = leases.map((lease, place) => ({ ...lease, verdict: "retry", ...times[place] }));
  await one.finish("worker", outcomes, { at: time(5) });
  const known = await Promise.all(leases.map(({ id }) => one.look(id)));
  expect(known.map(({ available_at }) => available_at)).toEqual([time(5), time(5), time(5), time(10)]);
});

test("finish() keeps since when a command is unknown, until it was known or put off", async () => {
  const { one, newQueue } = sessions;
  const queue = newQueue();
  await one.push([{ queue, max_attempts: 9 }], { at: time(0) });
  const since: (string | null)[] = [];
  for (const [place, verdict] of ["unknown", "unknown", "release", "unknown", "retry", "unknown", "snooze"].entries()) {
    const [lease] = (await one.claim(queue, { at: time(place) })).commands;
    if (lease === undefined) expect.fail(`nothing was claimed before ${verdict}`);
    await one.end("worker", { ...lease, verdict }, { at: time(place) });
    since.push((await one.look(lease.id)).unknown_since);
  }
  expect(since).toEqual([time(0), time(0), time(0), time(0), null, time(5), null]);
});

test("finish() calls missing what another worker, or another lease, has a say in", async () => {
  const { one, newQueue } = sessions;
  const lease = await one.leaseOne(newQueue(), {}, { worker: "w1" });
  const others: [string, { id: string; fence: number }][] = [
    ["w2", lease],
    ["w1", { ...lease, fence: 0 }],
    ["w1", { ...lease, fence: 2 }],
    ["w1", { ...lease, id: newId() }],
  ];
  for (const verdict of ["succeeded", "failed", "retry"]) {
    for (const [worker, other] of others) {
      const follow_ups = [{ name: "follow", queue: "nobody" }];
      expect(await one.end(worker, { ...other, verdict, follow_ups })).toBe("missing");
    }
  }
  expect(await one.look(lease.id, { at: time(1) })).toMatchObject({
    status: "running",
    worker: "w1",
    fence: 1,
    trail: null,
  });
  expect(await waiting(one, "nobody")).toEqual([]);
});

test("finish() calls missing a lease that was lost to the same worker's next", async () => {
  const { one, newQueue } = sessions;
  const queue = newQueue();
  const lost = await one.leaseOne(queue, {}, { leaseMs: 10 });
  const [next] = (await one.claim(queue, { at: time(10) })).commands;
  expect(next).toMatchObject({ id: lost.id, fence: 2 });
  const outcomes = [
    { ...lost, verdict: "failed" },
    { ...lost, fence: 2, verdict: "succeeded" },
  ];
  const { results } = await one.finish("worker", outcomes, { at: time(11) });
  expect(new Map(results.map(({ fence, result }) => [fence, result]))).toEqual(
    new Map([
      [1, "missing"],
      [2, "accepted"],
    ]),
  );
  expect(await one.look(lost.id)).toMatchObject({ status: "succeeded", fence: 2 });
});

test("finish() accepts a late outcome as long as nobody else has claimed the command", async () => {
  const { one, newQueue } = sessions;
  const lease = await one.leaseOne(newQueue(), {}, { leaseMs: 10 });
  expect(await one.end("worker", { ...lease, verdict: "succeeded" }, { at: time(99_999) })).toBe("accepted");
});

test.each(["succeeded", "failed", "retry", "snooze", "release", "unknown"])(
  "finish() accepts one report of a lease: none after %s",
  async (first) => {
    const { one, newQueue } = sessions;
    const lease = await one.leaseOne(newQueue(), { max_attempts: 9 });
    expect(await one.end("worker", { ...lease, verdict: first }, { at: time(1) })).toBe("accepted");
    // After a retry the row is still there, and its id and fence are the same.
    const after = await one.look(lease.id, { at: time(1) });
    for (const verdict of ["succeeded", "failed", "retry", "release"]) {
      expect(await one.end("worker", { ...lease, verdict }, { at: time(2) })).toBe("missing");
    }
    expect(await one.look(lease.id, { at: time(1) })).toEqual(after);
  },
);

test("finish() takes one of two outcomes of the same lease in one batch", async () => {
  const { one, newQueue } = sessions;
  const [queue, next] = [newQueue(), newQueue()];
  const lease = await one.leaseOne(queue);
  const outcome = { ...lease, verdict: "succeeded", follow_ups: [{ queue: next }] };
  const { results } = await one.finish("worker", [outcome, outcome]);
  expect(results).toEqual([{ id: lease.id, fence: 1, result: "accepted" }]);
  expect(await waiting(one, next)).toHaveLength(1);
});

test("finish() calls busy what somebody has locked, does not wait, and ends the rest", async () => {
  const { one, two, newQueue } = sessions;
  const next = newQueue();
  const leases = await one.lease(newQueue(), [{}, {}, {}]);
  await two.lock(leases[1]?.id ?? "");
  const outcomes = leases.map((lease) => ({ ...lease, verdict: "succeeded", follow_ups: [{ queue: next }] }));
  const first = await one.finish("worker", outcomes, { at: time(1) });
  const result = new Map(first.results.map(({ id, result }) => [id, result]));
  expect(leases.map(({ id }) => result.get(id))).toEqual(["accepted", "busy", "accepted"]);
  expect(await waiting(one, next)).toHaveLength(2);
  expect(await one.end("worker", outcomes[1] ?? expect.fail(), { at: time(2) })).toBe("busy");
  await two.rollback();
  expect(await one.end("worker", outcomes[1] ?? expect.fail(), { at: time(3) })).toBe("accepted");
  expect(await waiting(one, next)).toHaveLength(3);
});

test("finish() waits for no other finish of the same lease: one is accepted, and both know it", async () => {
  const { one, two, newQueue } = sessions;
  const next = newQueue();
  const lease = await one.leaseOne(newQueue());
  const outcome = { ...lease, verdict: "succeeded", follow_ups: [{ queue: next }] };
  await one.begin();
  expect(await one.end("worker", outcome)).toBe("accepted");
  expect(await two.end("worker", { ...outcome, verdict: "failed" })).toBe("busy");
  await one.commit();
  expect(await two.end("worker", { ...outcome, verdict: "failed" })).toBe("missing");
  expect(await waiting(one, next)).toHaveLength(1);
  expect(await one.look(lease.id)).toMatchObject({ status: "succeeded" });
});

/** A command that runs, and is to be cancelled. */
async function leaseToCancel(session: Session, queue: string) {
  const [lease] = await session.leaseNow(queue);
  if (lease === undefined) throw new Error("Cannot lease a command");
  expect((await session.cancel([lease.id])).results.get(lease.id)).toBe("requested");
  return lease;
}

test.each(["retry", "snooze", "release", "unknown", "failed", "timed_out", "not_found", "cancelled"])(
  "finish() turns %s into cancelled once cancellation was requested",
  async (verdict) => {
    const { one, newQueue } = sessions;
    const lease = await leaseToCancel(one, newQueue());
    expect(await one.end("worker", { ...lease, verdict })).toBe("accepted");
    const known = await one.look(lease.id);
    expect(known).toMatchObject({ status: "cancelled", fence: 1 });
    expect(known.cancel_requested_at).not.toBeNull();
  },
);

test("finish() leaves it at succeeded where cancellation was requested too late", async () => {
  const { one, newQueue } = sessions;
  const lease = await leaseToCancel(one, newQueue());
  expect(await one.end("worker", { ...lease, verdict: "succeeded", output: 1 })).toBe("accepted");
  expect(await one.look(lease.id)).toMatchObject({ status: "succeeded", output: "1" });
});

test("finish() decides by the locked row: a cancel that is open makes it busy", async () => {
  const { one, two, newQueue } = sessions;
  const [lease] = await one.leaseNow(newQueue());
  if (lease === undefined) expect.fail();
  await two.begin();
  await two.cancel([lease.id]);
  expect(await one.end("worker", { ...lease, verdict: "failed" })).toBe("busy");
  await two.commit();
  expect(await one.end("worker", { ...lease, verdict: "failed" })).toBe("accepted");
  expect(await one.look(lease.id)).toMatchObject({ status: "cancelled" });
});

test("finish() pushes follow-ups in their order, with what they say", async () => {
  const { one, newQueue } = sessions;
  const [queue, next, other] = [newQueue(), newQueue(), newQueue()];
  const lease = await one.leaseOne(queue);
  const follow_ups = [
    { name: "first", queue: next, parent_id: lease.id, input: { a: 1 }, metadata: { correlationId: "c" } },
    { name: "second", queue: next, delay_ms: 1_000, priority: 0, max_attempts: 1, timeout_ms: 9, version: 2 },
    { name: "third", queue: other, due_at: time(60_000) },
  ];
  const { due } = await one.finish("worker", [{ ...lease, verdict: "succeeded", follow_ups }], { at: time(5) });
  expect(due).toEqual([
    { queue: next, available_at: time(5) },
    { queue: other, available_at: time(60_000, 2) },
  ]);
  expect(await waiting(one, next)).toMatchObject([
    { name: "first", parent_id: lease.id, input: '{"a":1}', metadata: '{"correlationId":"c"}', created_at: time(5) },
    { name: "second", due_at: time(1_005), priority: 0, max_attempts: 1, timeout_ms: 9, version: 2 },
  ]);
  expect(await waiting(one, other)).toMatchObject([{ name: "third" }]);
});

test("finish() pushes follow-ups with every end, and with none that is not one", async () => {
  const { one, newQueue } = sessions;
  for (const verdict of ["succeeded", "failed", "cancelled", "timed_out", "not_found"]) {
    const next = newQueue();
    const lease = await one.leaseOne(newQueue());
    await one.end("worker", { ...lease, verdict, follow_ups: [{ queue: next }] });
    expect(await waiting(one, next)).toHaveLength(1);
  }
  for (const verdict of ["retry", "snooze", "release", "unknown"]) {
    const next = newQueue();
    const lease = await one.leaseOne(newQueue());
    await one.end("worker", { ...lease, verdict, follow_ups: [{ queue: next }] });
    expect(await waiting(one, next)).toEqual([]);
  }
});

test("finish() repeated pushes its follow-ups no second time", async () => {
  const { one, newQueue } = sessions;
  const [queue, next] = [newQueue(), newQueue()];
  const lease = await one.leaseOne(queue);
  const outcome = { ...lease, verdict: "succeeded", follow_ups: [{ queue: next }, { queue: next }] };
  expect(await one.end("worker", outcome)).toBe("accepted");
  const repeated = await one.finish("worker", [outcome]);
  expect(repeated).toEqual({ results: [{ id: lease.id, fence: 1, result: "missing" }], awaited: [], due: [] });
  expect(await waiting(one, next)).toHaveLength(2);
});

test("finish() commits the end and what follows from it together, or neither", async () => {
  const { one, newQueue } = sessions;
  const next = newQueue();
  const lease = await one.leaseOne(newQueue());
  const outcome = { ...lease, verdict: "succeeded", follow_ups: [{ queue: next }] };
  await one.begin();
  expect(await one.end("worker", outcome)).toBe("accepted");
  await one.rollback();
  expect(await waiting(one, next)).toEqual([]);
  await expect(
    one.end("worker", { ...outcome, follow_ups: [{ queue: next }, { queue: "a b" }] }),
  ).rejects.toMatchObject({ code: "23514" });
  expect(await one.look(lease.id, { at: time(0) })).toMatchObject({ status: "running" });
  expect(await waiting(one, next)).toEqual([]);
});

test.each([
  { verdict: "failed", hook: "failure" },
  { verdict: "timed_out", hook: "failure" },
  { verdict: "not_found", hook: "failure" },
  { verdict: "cancelled", hook: "cancellation" },
])("finish() pushes the hook of a command that ended as $verdict", async ({ verdict, hook }) => {
  const { one, newQueue } = sessions;
  const queue = newQueue();
  await registerHandler(one, { name: queue, version: 1, hooks: ["failure", "cancellation"] });
  const metadata = { correlationId: "c", causationId: "before", actor: "a" };
  const lease = await one.leaseOne(queue, {
    name: queue,
    version: 2,
    max_attempts: 1,
    timeout_ms: 77,
    input: { a: 1 },
    metadata,
  });
  const error = { code: "broken", message: "It broke" };
  const { due } = await one.finish("worker", [{ ...lease, verdict, error }], { at: time(5) });
  expect(due).toEqual([{ queue, available_at: time(5) }]);
  const [pushed, ...others] = await waiting(one, queue);
  expect(others).toEqual([]);
  expect(pushed).toMatchObject({
    name: queue,
    version: 2,
    hook,
    priority: 5,
    max_attempts: 4,
    timeout_ms: 77,
    parent_id: lease.id,
    due_at: time(5),
    available_at: time(5),
    attempt: 0,
    fence: 0,
  });
  expect(JSON.parse(pushed?.input ?? "")).toEqual({ input: { a: 1 }, status: verdict, error });
  expect(JSON.parse(pushed?.metadata ?? "")).toEqual({ correlationId: "c", causationId: lease.id, actor: "a" });
});

test("finish() makes the parent the correlation of a hook where there was none", async () => {
  const { one, newQueue } = sessions;
  for (const metadata of [undefined, [1], "text"]) {
    const queue = newQueue();
    await registerHandler(one, { name: queue, hooks: ["failure"] });
    const lease = await one.leaseOne(queue, { name: queue, ...(metadata === undefined ? {} : { metadata }) });
    await one.end("worker", { ...lease, verdict: "failed" });
    const [hook] = await waiting(one, queue);
    expect(JSON.parse(hook?.metadata ?? "")).toEqual({ correlationId: lease.id, causationId: lease.id });
    expect(JSON.parse(hook?.input ?? "")).toEqual({ status: "failed", error: null });
  }
});

test("finish() pushes a hook where some version of the handler has it, and no other", async () => {
  const { one, newQueue } = sessions;
  const queue = newQueue();
  const end = async (verdict: string): Promise<(string | null)[]> => {
    const lease = await one.leaseOne(queue, { name: queue });
    await one.end("worker", { ...lease, verdict }, { at: time(1) });
    const hooks = await waiting(one, queue);
    await one.rows("delete from orchestratum.command where queue = $1::text", [queue]);
    return hooks.map(({ hook }) => hook);
  };
  expect(await end("failed")).toEqual([]);
  await registerHandler(one, { name: queue, version: 1, hooks: [] });
  await registerHandler(one, { name: queue, version: 2, hooks: ["cancellation"] });
  expect(await end("failed")).toEqual([]);
  expect(await end("cancelled")).toEqual(["cancellation"]);
  await registerHandler(one, { name: queue, version: 3, hooks: ["failure"] });
  expect(await end("failed")).toEqual(["failure"]);
  expect(await end("succeeded")).toEqual([]);
  expect(await end("retry")).toEqual([null]);
});

test("finish() pushes no hook of a hook", async () => {
  const { one, newQueue } = sessions;
  const queue = newQueue();
  await registerHandler(one, { name: queue, hooks: ["failure", "cancellation"] });
  for (const [hook, verdict] of [
    ["failure", "failed"],
    ["failure", "cancelled"],
    ["cancellation", "timed_out"],
  ] as const) {
    const lease = await one.leaseOne(queue, { name: queue, hook });
    expect(await one.end("worker", { ...lease, verdict })).toBe("accepted");
    expect(await waiting(one, queue)).toEqual([]);
  }
});

test("finish() repeated pushes the hook no second time", async () => {
  const { one, newQueue } = sessions;
  const queue = newQueue();
  await registerHandler(one, { name: queue, hooks: ["failure"] });
  const lease = await one.leaseOne(queue, { name: queue });
  expect(await one.end("worker", { ...lease, verdict: "failed" })).toBe("accepted");
  expect(await one.end("worker", { ...lease, verdict: "failed" })).toBe("missing");
  expect(await waiting(one, queue)).toHaveLength(1);
});

test("finish() ends a command with a hook whose input and metadata nobody can parse", async () => {
  const { one, newQueue } = sessions;
  for (const written of ['{"a":"\\u0000"}', '{"a":"\\ud800"}', '{"a":1e999999}']) {
    const queue = newQueue();
    await registerHandler(one, { name: queue, hooks: ["failure"] });
    const [pushed] = await one.push([{ name: queue, queue }], { at: time(0) });
    await one.rows(
      `update orchestratum.command set input = $2::text::json, metadata = $2::text::json where id = $1::text::uuid`,
      [pushed?.id ?? "", written],
    );
    const [lease] = (await one.claim(queue, { at: time(0) })).commands;
    expect(await one.end("worker", { id: lease?.id ?? "", fence: 1, verdict: "failed" })).toBe("accepted");
    expect(await one.look(lease?.id ?? "")).toMatchObject({ status: "failed", input: written, metadata: written });
    const [hook] = await waiting(one, queue);
    expect(hook?.input).toContain(written);
    expect(JSON.parse(hook?.metadata ?? "")).toEqual({ correlationId: lease?.id, causationId: lease?.id });
  }
});

test("finish() answers for each queue when something becomes due there first", async () => {
  const { one, newQueue } = sessions;
  const [queue, next] = [newQueue(), newQueue()];
  const leases = await one.lease(queue, [{}, {}, {}]);
  const outcomes = [
    { verdict: "retry", delay_ms: 500 },
    { verdict: "snooze", until: time(100) },
    {
      verdict: "succeeded",
      follow_ups: [
        { queue: next, delay_ms: 300 },
        { queue: next, delay_ms: 200 },
        { queue, delay_ms: 400 },
      ],
    },
  ].map((outcome, place) => ({ ...(leases[place] ?? expect.fail()), ...outcome }));
  const { due } = await one.finish("worker", outcomes, { at: time(50) });
  expect(due).toEqual([
    { queue, available_at: time(100) },
    { queue: next, available_at: time(250, 1) },
  ]);
});

test("finish() tells of which commands somebody waits for the end", async () => {
  const { one, newQueue } = sessions;
  const leases = await one.lease(newQueue(), [{ awaited: true }, {}, { awaited: true }, { awaited: true }]);
  const verdicts = ["succeeded", "failed", "failed", "retry"];
  const outcomes = leases.map((lease, place) => ({ ...lease, verdict: verdicts[place] ?? "" }));
  const { awaited } = await one.finish("worker", outcomes);
  expect(awaited.toSorted()).toEqual([leases[0]?.id, leases[2]?.id].toSorted());
});

test("finish() writes into the two rings of history by its clock", async () => {
  const { one, newQueue } = sessions;
  for (const at of [time(0), time(86_400_000)]) {
    const [good, bad] = await one.lease(newQueue(), [{}, {}], { at });
    if (good === undefined || bad === undefined) expect.fail();
    const outcomes = [
      { ...good, verdict: "succeeded" },
      { ...bad, verdict: "failed" },
    ];
    await one.finish("worker", outcomes, { at });
    const slots = await one.row<{ good: number; bad: number }>(
      `select
        orchestratum.history_slot($1::text::timestamptz, true) as good,
        orchestratum.history_slot($1::text::timestamptz, false) as bad`,
      [at],
    );
    expect(slots.good).toBeLessThan(16);
    expect(slots.bad).toBeGreaterThanOrEqual(16);
    expect({ good: await slotOf(one, good.id), bad: await slotOf(one, bad.id) }).toEqual(slots);
  }
});

test("finish() records no more attempts than a command has", async () => {
  const { one, newQueue } = sessions;
  const queue = newQueue();
  await one.leaseOne(queue, { max_attempts: 1 }, { leaseMs: 10 });
  const [lease] = (await one.claim(queue, { at: time(10) })).commands;
  expect(lease).toMatchObject({ purpose: "exhausted", attempt: 2 });
  await one.end("worker", { ...(lease ?? expect.fail()), verdict: "failed" });
  expect(await one.look(lease?.id ?? "")).toMatchObject({ attempt: 1, max_attempts: 1, losses: 1, fence: 2 });
});

test("finish() gives up after 200 ms where a follow-up's id stands in an open transaction, and then writes nothing", async () => {
  const { one, two, newQueue } = sessions;
  const [queue, next] = [newQueue(), newQueue()];
  const leases = await one.lease(queue, [{}, {}]);
  const twin = { id: newId(), queue: next };
  await two.begin();
  await two.push([twin]);
  const outcomes = leases.map((lease, place) => ({
    ...lease,
    verdict: "succeeded",
    follow_ups: place === 0 ? [twin] : [{ queue: next }],
  }));
  const started = performance.now();
  await expect(one.finish("worker", outcomes)).rejects.toMatchObject({ code: "55P03" });
  const waitedMs = performance.now() - started;
  expect(waitedMs).toBeGreaterThan(190);
  // The session itself would wait for ten seconds.
  expect(waitedMs).toBeLessThan(9_000);
  expect(await waiting(one, next)).toEqual([]);
  for (const { id } of leases) expect(await one.look(id, { at: time(1) })).toMatchObject({ status: "running" });
  await two.rollback();
  const { results } = await one.finish("worker", outcomes);
  expect(results.map(({ result }) => result)).toEqual(["accepted", "accepted"]);
});
