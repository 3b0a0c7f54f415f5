import { expect, test } from "vitest";
import { jsonTime, time, useSessions } from "./session.ts";

const sessions = useSessions();

test("give_back() hands back, unburnt, what is leased to the worker and unknown to it", async () => {
  const { one, newQueue } = sessions;
  const queue = newQueue();
  const [known, unknown] = await one.lease(queue, [{ max_attempts: 1 }, { max_attempts: 1 }]);
  if (known === undefined || unknown === undefined) expect.fail();
  expect(await one.giveBack("worker", [{ queue }], [known], { at: time(100) })).toBe(1);
  expect(await one.look(unknown.id)).toMatchObject({
    available_at: time(100),
    attempt: 0,
    fence: 1,
    losses: 0,
    worker: null,
  });
  expect(await one.trail(unknown.id)).toEqual([
    {
      code: "released",
      message: "The reply of its claim was lost",
      fence: 1,
      attempt: 1,
      worker: "worker",
      started_at: jsonTime(1),
      ended_at: jsonTime(100),
    },
  ]);
  expect(await one.look(known.id, { at: time(101) })).toMatchObject({ status: "running", attempt: 1 });
  expect(await one.giveBack("worker", [{ queue }], [known], { at: time(101) })).toBe(0);
  const { commands } = await one.claim(queue, { at: time(101) });
  expect(commands).toMatchObject([{ id: unknown.id, purpose: "run", fence: 2, attempt: 1 }]);
});

test("give_back() knows leases by their fence: one of an earlier lease does not keep a command", async () => {
  const { one, newQueue } = sessions;
  const queue = newQueue();
  const { id } = await one.leaseOne(queue, {}, { leaseMs: 10 });
  await one.claim(queue, { at: time(10) });
  expect(await one.giveBack("worker", [{ queue }], [{ id, fence: 1 }], { at: time(11) })).toBe(1);
});

test("give_back() leaves other workers' leases alone, and what has expired to the claim", async () => {
  const { one, newQueue } = sessions;
  const queue = newQueue();
  const other = await one.leaseOne(queue, {}, { worker: "w2" });
  const expired = await one.leaseOne(queue, {}, { worker: "w1", leaseMs: 10 });
  expect(await one.giveBack("w1", [{ queue }], [], { at: time(10) })).toBe(0);
  expect(await one.look(other.id)).toMatchObject({ worker: "w2", fence: 1 });
  expect(await one.look(expired.id)).toMatchObject({ worker: "w1", fence: 1 });
});

test("give_back() works in the lanes given", async () => {
  const { one, newQueue } = sessions;
  const [a, b] = [newQueue(), newQueue()];
  const lanes = [
    { queue: a, priority: 5 },
    { queue: a, priority: 1 },
    { queue: b, priority: 5 },
  ];
  await one.push(lanes, { at: time(0) });
  expect((await one.claim(lanes, { at: time(1) })).commands).toHaveLength(3);
  expect(await one.giveBack("worker", [{ queue: "none" }], [], { at: time(2) })).toBe(0);
  expect(await one.giveBack("worker", lanes.slice(1), [], { at: time(2) })).toBe(2);
  const { commands } = await one.claim(lanes, { at: time(2) });
  expect(commands.map(({ lane }) => lane)).toEqual([2, 3]);
});

test("give_back() finds leases that a heartbeat has not moved further than two lengths of a lease", async () => {
  const { one, newQueue } = sessions;
  const queue = newQueue();
  await one.leaseOne(queue, {}, { leaseMs: 2_000 });
  expect(await one.giveBack("worker", [{ queue }], [], { at: time(0), leaseMs: 999 })).toBe(0);
  expect(await one.giveBack("worker", [{ queue }], [], { at: time(0), leaseMs: 1_000 })).toBe(1);
});

test("give_back() does not wait for a row that somebody has locked", async () => {
  const { one, two, newQueue } = sessions;
  const queue = newQueue();
  const [held] = await one.lease(queue, [{}, {}]);
  await two.lock(held?.id ?? "");
  expect(await one.giveBack("worker", [{ queue }], [], { at: time(2) })).toBe(1);
  await two.rollback();
  expect(await one.giveBack("worker", [{ queue }], [], { at: time(3) })).toBe(1);
});

test("give_back() finds nothing of a claim that has not committed, and all of it afterwards", async () => {
  const { one, two, newQueue } = sessions;
  const queue = newQueue();
  await one.push([{ queue, max_attempts: 1 }], { at: time(0) });
  await two.begin();
  expect((await two.claim(queue, { at: time(1) })).commands).toHaveLength(1);
  expect(await one.giveBack("worker", [{ queue }], [], { at: time(2) })).toBe(0);
  await two.commit();
  expect(await one.giveBack("worker", [{ queue }], [], { at: time(3) })).toBe(1);
  expect((await one.claim(queue, { at: time(3) })).commands).toMatchObject([{ purpose: "run", attempt: 1 }]);
});
