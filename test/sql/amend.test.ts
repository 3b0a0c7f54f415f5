import { expect, test } from "vitest";
import { queries } from "../../src/sql.generated.ts";
import { newId, type Session, time, useSessions } from "./session.ts";

const sessions = useSessions();

interface Row {
  readonly id: string | null;
  readonly result: string;
  readonly queue: string;
  readonly available_at: string;
}

async function amend(session: Session, ids: readonly string[], change: object, kind = "edit") {
  const rows = await session.rows<Row>(queries.amend, [JSON.stringify(ids), JSON.stringify(change), kind, null]);
  return {
    results: new Map(rows.filter(({ id }) => id !== null).map(({ id, result }) => [id, result])),
    due: rows.filter(({ id }) => id === null).map(({ queue, available_at }) => ({ queue, available_at })),
  };
}

const changes = [
  ["edit", { input: { b: 2 } }],
  ["reschedule", { delay_ms: 60_000 }],
  ["reprioritise", { priority: 1 }],
] as const;

test.each(changes)(
  "amend() to %s leaves alone what runs, has ended, or is locked by somebody",
  async (kind, change) => {
    const { one, two, newQueue } = sessions;
    const queue = newQueue();
    const [running, ended] = await one.leaseNow(queue, [{}, {}]);
    const [held] = await one.push([{ queue }]);
    if (!running || !ended || !held) expect.fail();
    await one.end("worker", { ...ended, verdict: "succeeded" });
    const before = await one.get([running.id, ended.id, held.id], { at: time(0) });
    const none = newId();
    await two.lock(held.id);
    expect((await amend(one, [running.id, ended.id, held.id, none], change, kind)).results).toEqual(
      new Map([
        [running.id, "running"],
        [ended.id, "finished"],
        [held.id, "busy"],
        [none, "unknown"],
      ]),
    );
    expect(await one.get([running.id, ended.id, held.id], { at: time(0) })).toEqual(before);
    await two.rollback();
    expect((await amend(one, [held.id], change, kind)).results.get(held.id)).toBe("changed");
  },
);

test.each(changes)(
  "amend() to %s is busy with what a claim is about to lease, and then running",
  async (kind, change) => {
    const { one, two, newQueue } = sessions;
    const queue = newQueue();
    const [pushed] = await one.push([{ queue, input: { a: 1 } }]);
    const id = pushed?.id ?? "";
    await two.begin();
    expect((await two.claim(queue)).commands).toHaveLength(1);
    expect((await amend(one, [id], change, kind)).results.get(id)).toBe("busy");
    await two.commit();
    expect((await amend(one, [id], change, kind)).results.get(id)).toBe("running");
    expect(await one.look(id)).toMatchObject({ status: "running", input: '{"a":1}', priority: 5 });
  },
);

test.each(changes)(
  "amend() to %s takes away an expired lease, so that its holder has no say any more",
  async (kind, change) => {
    const { one, newQueue } = sessions;
    const queue = newQueue();
    const lease = await one.leaseOne(queue, { input: { a: 1 } });
    expect((await amend(one, [lease.id], change, kind)).results.get(lease.id)).toBe("changed");
    expect(await one.look(lease.id)).toMatchObject({ worker: null, losses: 1, attempt: 1, fence: 1 });
    expect(await one.trail(lease.id)).toMatchObject([
      { code: "lost", message: "Its lease ended without a word", fence: 1, attempt: 1, worker: "worker" },
    ]);
    expect(await one.end("worker", { ...lease, verdict: "succeeded" })).toBe("missing");
    expect(await one.confirm("worker", [lease])).toMatchObject([{ result: "lost" }]);
  },
);

test("amend() changes an input and nothing else", async () => {
  const { one, newQueue } = sessions;
  const queue = newQueue();
  const [pushed] = await one.push([{ queue, priority: 3, input: 1 }]);
  const id = pushed?.id ?? "";
  const before = await one.look(id);
  const { due } = await amend(one, [id], { input: { big: 1e300 } });
  expect(await one.look(id)).toEqual({ ...before, input: '{"big":1e+300}' });
  expect(due).toEqual([{ queue, available_at: before.available_at }]);
  await amend(one, [id], { input: null });
  expect((await one.look(id)).input).toBe("null");
});

test("amend() to another priority: what is due is due from now, in its order, so that no mark hides it", async () => {
  const { one, newQueue } = sessions;
  const queue = newQueue();
  const [a, b, later] = await one.push([{ queue }, { queue }, { queue, delay_ms: 60_000 }]);
  if (!a || !b || !later) expect.fail();
  const { clock } = await one.claim([{ queue, priority: 1 }]);
  const { results, due } = await amend(one, [b.id, later.id, a.id], { priority: 1 }, "reprioritise");
  expect([...results.values()]).toEqual(["changed", "changed", "changed"]);
  const { commands } = await one.claim([{ queue, priority: 1, mark_at: clock }]);
  expect(commands.map(({ id }) => id)).toEqual([a.id, b.id]);
  expect(commands[0]?.available_at).not.toBe(commands[1]?.available_at);
  expect(due).toEqual([{ queue, available_at: commands[0]?.available_at }]);
  expect(await one.look(later.id)).toMatchObject({
    status: "scheduled",
    priority: 1,
    available_at: later.available_at,
  });
});

test("amend() to another time: the past is now, so that no mark hides it, and the future is scheduled", async () => {
  const { one, newQueue } = sessions;
  const queue = newQueue();
  const [scheduled, pending] = await one.push([{ queue, delay_ms: 60_000 }, { queue }]);
  if (!scheduled || !pending) expect.fail();
  await amend(one, [pending.id], { due_at: "2100-01-01T00:00:00.000Z" }, "reschedule");
  expect(await one.look(pending.id)).toMatchObject({
    status: "scheduled",
    due_at: "2100-01-01 00:00:00+00",
    available_at: "2100-01-01 00:00:00+00",
  });
  const { clock, commands } = await one.claim(queue);
  expect(commands).toEqual([]);
  const { due } = await amend(one, [scheduled.id], { due_at: "2020-01-01T00:00:00Z" }, "reschedule");
  expect(await one.look(scheduled.id)).toMatchObject({ status: "pending", due_at: "2020-01-01 00:00:00+00" });
  const claim = await one.claim([{ queue, mark_at: clock }]);
  expect(claim.commands).toMatchObject([{ id: scheduled.id, available_at: due[0]?.available_at }]);
});

test.each(changes)(
  "amend() to %s leaves alone what is to end as cancelled, though its lease is over",
  async (kind, change) => {
    const { one, newQueue } = sessions;
    const queue = newQueue();
    const [lease] = await one.leaseNow(queue, [{ input: { a: 1 } }], { leaseMs: 1 });
    if (!lease) expect.fail();
    await one.rows(
      "update orchestratum.command set cancel_requested_at = clock_timestamp() where id = $1::text::uuid",
      [lease.id],
    );
    const before = await one.look(lease.id, { at: time(0) });
    expect(await amend(one, [lease.id], change, kind)).toEqual({
      results: new Map([[lease.id, "cancelling"]]),
      due: [],
    });
    expect(await one.look(lease.id, { at: time(0) })).toEqual(before);
    const { commands } = await one.claim(queue, { worker: "another" });
    expect(commands).toMatchObject([{ id: lease.id, purpose: "cancel" }]);
  },
);

test("amend() of an input lets a repeated push of the first one be what it is", async () => {
  const { one, newQueue } = sessions;
  const queue = newQueue();
  const [first, second] = [
    { id: newId(), queue, input: { a: 1 } },
    { id: newId(), queue, input: { a: 1 } },
  ];
  await one.push([first, second]);
  const ids = [first.id, second.id];
  await amend(one, ids, { priority: 4 }, "reprioritise");
  await expect(one.push([{ ...second, input: 2 }], { repeat: true })).rejects.toMatchObject({ code: "OR001" });
  await amend(one, ids, { input: { a: 2 } });
  expect(await one.push([first, second], { repeat: true })).toEqual([]);
  expect(await one.get(ids)).toMatchObject([{ input: '{"a":2}' }, { input: '{"a":2}' }]);
});
