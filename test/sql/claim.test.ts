import { expect, test } from "vitest";
import { jsonTime, newId, time, useSessions } from "./session.ts";

const sessions = useSessions();

const ids = (commands: readonly { id: string }[]): string[] => commands.map(({ id }) => id);

test("claim() leases what is due, and answers what an execution needs", async () => {
  const { one, newQueue } = sessions;
  const [id, parent, queue] = [newId(), newId(), newQueue()];
  await one.push(
    `[{"id": "${id}", "name": "send", "version": 2, "hook": "failure", "queue": "${queue}", "timeout_ms": 7, "max_attempts": 3,
      "parent_id": "${parent}", "input": {"b":  1e300}, "metadata": {"z":1}, "due_at": "${time(-1_000)}"}]`,
    { at: time(0) },
  );
  const { commands, clock, more } = await one.claim(queue, { at: time(10), worker: "w1", leaseMs: 5_000 });
  expect(commands).toEqual([
    {
      id,
      name: "send",
      version: 2,
      hook: "failure",
      purpose: "run",
      fence: 1,
      attempt: 1,
      max_attempts: 3,
      losses: 0,
      abandoned_by: null,
      timeout_ms: 7,
      parent_id: parent,
      unknown_since: null,
      input: '{"b":  1e300}',
      metadata: '{"z":1}',
      lane: 1,
      available_at: time(0),
    },
  ]);
  expect({ clock, more }).toEqual({ clock: time(10), more: false });
  expect(await one.look(id, { at: time(5_009, 999) })).toMatchObject({
    status: "running",
    worker: "w1",
    started_at: time(10),
    available_at: time(5_010),
    trail: null,
  });
});

test("claim() takes what is available first, up to max_count, and says that more is due", async () => {
  const { one, newQueue } = sessions;
  const queue = newQueue();
  const [last, first, second] = await one.push(
    [
      { queue, delay_ms: 30 },
      { queue, delay_ms: 10 },
      { queue, delay_ms: 20 },
    ],
    { at: time(0) },
  );
  const claim = await one.claim(queue, { at: time(100), maxCount: 2 });
  expect(ids(claim.commands)).toEqual([first?.id, second?.id]);
  expect(claim.more).toBe(true);
  const rest = await one.claim(queue, { at: time(100), maxCount: 2 });
  expect(ids(rest.commands)).toEqual([last?.id]);
  expect(rest.more).toBe(false);
});

test("claim() says that more may be due when it stops at max_count", async () => {
  const { one, newQueue } = sessions;
  const queue = newQueue();
  await one.push([{ queue }], { at: time(0) });
  expect((await one.claim(queue, { at: time(0), maxCount: 1 })).more).toBe(true);
  expect(await one.claim(queue, { at: time(0), maxCount: 1 })).toEqual({ commands: [], clock: time(0), more: false });
});

test("claim() goes through lanes in the order given, with one max_count for all", async () => {
  const { one, newQueue } = sessions;
  const [a, b, unserved] = [newQueue(), newQueue(), newQueue()];
  const pushed = await one.push(
    [
      { queue: a, priority: 5 },
      { queue: b, priority: 0 },
      { queue: a, priority: 1 },
      { queue: b, priority: 9 },
      { queue: a, priority: 5 },
      { queue: a, priority: 2 },
      { queue: unserved, priority: 5 },
    ],
    { at: time(0) },
  );
  const [aFive, bZero, aOne, bNine, aFiveToo] = ids(pushed);
  const lanes = [
    { queue: b, priority: 9 },
    { queue: a, priority: 1 },
    { queue: a, priority: 5 },
    { queue: b, priority: 0 },
  ];
  const claim = await one.claim(lanes, { at: time(1), maxCount: 4 });
  expect(claim.commands.map(({ id, lane }) => ({ id, lane }))).toEqual([
    { id: bNine, lane: 1 },
    { id: aOne, lane: 2 },
    { id: aFive, lane: 3 },
    { id: aFiveToo, lane: 3 },
  ]);
  expect(claim.more).toBe(true);
  const rest = await one.claim(lanes, { at: time(1) });
  expect(rest.commands).toMatchObject([{ id: bZero, lane: 4 }]);
  expect(rest.more).toBe(false);
});

test("claim() reads a lane once that is given twice, from the lower mark", async () => {
  const { one, newQueue } = sessions;
  const queue = newQueue();
  const pushed = await one.push([{ queue }, { queue, delay_ms: 10 }], { at: time(0) });
  for (const mark_at of ["-infinity", null]) {
    await one.begin();
    const lanes = [{ queue, mark_at: time(5) }, { queue: "none" }, { queue, mark_at }];
    expect(ids((await one.claim(lanes, { at: time(20) })).commands)).toEqual(ids(pushed));
    await one.rollback();
  }
});

test("claim() without lanes finds nothing, and no more", async () => {
  const { one } = sessions;
  expect(await one.claim([], { at: time(0) })).toEqual({ commands: [], clock: time(0), more: false });
});

test("claim() reads a lane from its mark on, in both looks", async () => {
  const { one, newQueue } = sessions;
  const queue = newQueue();
  const [below, onMark] = await one.push(
    [
      { queue, delay_ms: 10 },
      { queue, delay_ms: 20 },
    ],
    { at: time(0) },
  );
  const claim = await one.claim([{ queue, mark_at: onMark?.available_at ?? "" }], { at: time(100) });
  expect(ids(claim.commands)).toEqual([onMark?.id]);
  // Left behind: only a claim from below, the rescan, finds it.
  expect(claim.more).toBe(false);
  expect(ids((await one.claim(queue, { at: time(100) })).commands)).toEqual([below?.id]);
});

test("claim() stops at max_bytes of input, but takes one in any case", async () => {
  const { one, newQueue } = sessions;
  const queue = newQueue();
  const input = "é".repeat(49); // 98 bytes and the quotes
  await one.push(
    [1, 2, 3, 4, 5].map(() => ({ queue, input })),
    { at: time(0) },
  );
  const first = await one.claim(queue, { at: time(1), maxBytes: 1 });
  expect(first.commands).toHaveLength(1);
  expect(first.more).toBe(true);
  const second = await one.claim(queue, { at: time(1), maxBytes: 200 });
  expect(second.commands).toHaveLength(2);
  expect(second.more).toBe(true);
  const rest = await one.claim(queue, { at: time(1), maxBytes: 201 });
  expect(rest.commands).toHaveLength(2);
  expect(rest.more).toBe(false);
});

test("claim() counts the bytes of all lanes together", async () => {
  const { one, newQueue } = sessions;
  const [a, b] = [newQueue(), newQueue()];
  await one.push(
    [a, b, b].map((queue) => ({ queue, input: "x".repeat(98) })),
    { at: time(0) },
  );
  const lanes = [{ queue: a }, { queue: b }];
  const claim = await one.claim(lanes, { at: time(1), maxBytes: 150 });
  expect(claim.commands.map(({ lane }) => lane)).toEqual([1, 2]);
  expect(claim.more).toBe(true);
});

test("claim() counts an input that is missing as no bytes", async () => {
  const { one, newQueue } = sessions;
  const queue = newQueue();
  await one.push([{ queue }, { queue }, { queue, input: 1 }], { at: time(0) });
  expect((await one.claim(queue, { at: time(1), maxBytes: 1 })).commands).toHaveLength(3);
});

test("claim() does not take what is scheduled, parked or leased", async () => {
  const { one, newQueue } = sessions;
  const queue = newQueue();
  await one.leaseOne(queue, {}, { leaseMs: 1_000 });
  const [scheduled, parked] = await one.push([{ queue, delay_ms: 500 }, { queue }], { at: time(0) });
  await one.rows("update orchestratum.command set available_at = 'infinity' where id = $1::text::uuid", [
    parked?.id ?? "",
  ]);
  expect(await one.claim(queue, { at: time(499, 999) })).toMatchObject({ commands: [], more: false });
  expect(await one.claim(queue, { at: time(500) })).toMatchObject({ commands: [{ id: scheduled?.id }], more: false });
});

test("claim() skips what another worker holds, and says that more is due", async () => {
  const { one, two, newQueue } = sessions;
  const queue = newQueue();
  const [held, free] = await one.push([{ queue }, { queue }], { at: time(0) });
  await two.lock(held?.id ?? "");
  const claim = await one.claim(queue, { at: time(1) });
  expect(ids(claim.commands)).toEqual([free?.id]);
  expect(claim.more).toBe(true);
  expect(await one.claim(queue, { at: time(1) })).toMatchObject({ commands: [], more: true });
  await two.rollback();
  expect(await one.claim(queue, { at: time(1) })).toMatchObject({ commands: [{ id: held?.id }], more: false });
});

test("claim() does not see what another open claim has taken as done", async () => {
  const { one, two, newQueue } = sessions;
  const queue = newQueue();
  const [first, second] = await one.push([{ queue }, { queue }], { at: time(0) });
  await one.begin();
  expect(ids((await one.claim(queue, { at: time(1), maxCount: 1 })).commands)).toEqual([first?.id]);
  expect(await two.claim(queue, { at: time(1) })).toMatchObject({ commands: [{ id: second?.id }], more: true });
  await one.commit();
  expect(await two.claim(queue, { at: time(1) })).toMatchObject({ commands: [], more: false });
});

test("claim() takes a command whose lease expired, and keeps the loss", async () => {
  const { one, newQueue } = sessions;
  const queue = newQueue();
  const { id } = await one.leaseOne(queue, {}, { worker: "w1", leaseMs: 1_000 });
  expect((await one.claim(queue, { at: time(999, 999), worker: "w2" })).commands).toEqual([]);
  const { commands } = await one.claim(queue, { at: time(1_000), worker: "w2" });
  expect(commands).toMatchObject([{ id, purpose: "run", fence: 2, attempt: 2, losses: 1, abandoned_by: "w1" }]);
  const lost = { code: "lost", message: "Its lease ended without a word", fence: 1, attempt: 1, worker: "w1" };
  expect(await one.trail(id)).toEqual([{ ...lost, started_at: jsonTime(0), ended_at: jsonTime(1_000) }]);
  expect(await one.look(id)).toMatchObject({ worker: "w2", started_at: time(1_000) });
});

test("claim() tells a worker to end a command that was to be cancelled", async () => {
  const { one, newQueue } = sessions;
  const queue = newQueue();
  const { id } = await one.leaseOne(queue);
  await one.rows("update orchestratum.command set cancel_requested_at = now() where id = $1::text::uuid", [id]);
  const { commands } = await one.claim(queue, { at: time(60_000) });
  expect(commands).toMatchObject([{ id, purpose: "cancel", fence: 2 }]);
});

test("claim() tells a worker to end a command that has no attempts left", async () => {
  const { one, newQueue } = sessions;
  const queue = newQueue();
  const lease = await one.leaseOne(queue, { max_attempts: 2 });
  expect(lease.purpose).toBe("run");
  await one.end("worker", { ...lease, verdict: "retry" }, { at: time(1) });
  expect((await one.claim(queue, { at: time(1), leaseMs: 10 })).commands).toMatchObject([
    { purpose: "run", attempt: 2 },
  ]);
  expect((await one.claim(queue, { at: time(11) })).commands).toMatchObject([{ purpose: "exhausted", losses: 1 }]);
});

test("claim() tells a worker to end a command that was lost too often", async () => {
  const { one, newQueue } = sessions;
  const queue = newQueue();
  await one.push([{ queue, max_attempts: 100 }], { at: time(0) });
  const purposes: string[] = [];
  for (const ms of [0, 10, 20, 30, 40]) {
    const { commands } = await one.claim(queue, { at: time(ms), leaseMs: 10, maxLosses: 4 });
    purposes.push(...commands.map(({ purpose, losses }) => `${losses} ${purpose}`));
  }
  expect(purposes).toEqual(["0 run", "1 run", "2 run", "3 run", "4 exhausted"]);
});

test("claim() counts the attempt past the maximum, so that handing it back starts nothing again", async () => {
  const { one, newQueue } = sessions;
  const queue = newQueue();
  await one.push([{ queue, max_attempts: 1 }], { at: time(0) });
  const claim = async (ms: number) => {
    const [command] = (await one.claim(queue, { at: time(ms), leaseMs: 10 })).commands;
    return command ?? expect.fail("nothing was claimed");
  };
  expect(await claim(0)).toMatchObject({ purpose: "run", attempt: 1 });
  const ending = await claim(10);
  expect(ending).toMatchObject({ purpose: "exhausted", attempt: 2 });
  await one.end("worker", { ...ending, verdict: "release" }, { at: time(11) });
  const again = await claim(11);
  expect(again).toMatchObject({ purpose: "exhausted", attempt: 2, fence: 3 });
  expect(await one.giveBack("worker", [{ queue }], [], { at: time(12), leaseMs: 10 })).toBe(1);
  expect(await claim(12)).toMatchObject({ purpose: "exhausted", attempt: 2, fence: 4 });
});

test("claim() gives the fences 1 to n without gaps, whatever becomes of the leases", async () => {
  const { one, newQueue } = sessions;
  const queue = newQueue();
  await one.push([{ queue, max_attempts: 100 }], { at: time(0) });
  const verdicts = ["retry", "snooze", "release", "unknown", "nothing", "give back", "retry", "undone", "succeeded"];
  const fences: number[] = [];
  for (const [place, verdict] of verdicts.entries()) {
    const at = time(place * 10);
    if (verdict === "undone") await one.begin();
    const [lease] = (await one.claim(queue, { at, leaseMs: 10, maxLosses: 100 })).commands;
    if (lease === undefined) expect.fail(`nothing was claimed before ${verdict}`);
    if (verdict === "undone") await one.rollback();
    else fences.push(lease.fence);
    if (verdict === "give back") await one.giveBack("worker", [{ queue }], [], { at, leaseMs: 10 });
    else if (verdict !== "nothing") await one.end("worker", { ...lease, verdict }, { at });
  }
  expect(fences).toEqual([1, 2, 3, 4, 5, 6, 7, 8]);
});

test("claim() tells since when nobody knew the command", async () => {
  const { one, newQueue } = sessions;
  const queue = newQueue();
  const lease = await one.leaseOne(queue);
  await one.end("worker", { ...lease, verdict: "unknown" }, { at: time(5) });
  expect((await one.claim(queue, { at: time(5) })).commands).toMatchObject([{ unknown_since: time(5), attempt: 1 }]);
});
