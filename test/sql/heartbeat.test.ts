import { expect, test } from "vitest";
import { newId, time, useSessions } from "./session.ts";

const sessions = useSessions();

test("heartbeat() extends leases from its clock, and says so", async () => {
  const { one, newQueue } = sessions;
  const queue = newQueue();
  const lease = await one.leaseOne(queue, {}, { leaseMs: 1_000 });
  expect(await one.heartbeat("worker", [lease], { at: time(500), leaseMs: 1_000 })).toEqual([
    { id: lease.id, fence: 1, result: "accepted", cancel_requested: false },
  ]);
  expect(await one.look(lease.id, { at: time(1_400) })).toMatchObject({
    status: "running",
    available_at: time(1_500),
    fence: 1,
    attempt: 1,
    worker: "worker",
  });
  expect((await one.claim(queue, { at: time(1_499, 999) })).commands).toEqual([]);
  expect((await one.claim(queue, { at: time(1_500) })).commands).toMatchObject([{ fence: 2, losses: 1 }]);
});

test("heartbeat() never makes a lease shorter", async () => {
  const { one, newQueue } = sessions;
  const lease = await one.leaseOne(newQueue(), {}, { leaseMs: 60_000 });
  await one.heartbeat("worker", [lease], { at: time(1), leaseMs: 1_000 });
  expect(await one.look(lease.id)).toMatchObject({ available_at: time(60_000) });
});

test("heartbeat() carries progress, and keeps the last where there is none", async () => {
  const { one, newQueue } = sessions;
  const lease = await one.leaseOne(newQueue());
  const { id, fence } = lease;
  for (const [progress, kept] of [
    [undefined, null],
    [{ done: 1 }, '{"done":1}'],
    [undefined, '{"done":1}'],
    ["half", '"half"'],
  ]) {
    await one.heartbeat("worker", [{ id, fence, progress }]);
    expect((await one.look(id)).progress).toBe(kept);
  }
});

test("heartbeat() saves a lease that has expired and was not claimed", async () => {
  const { one, newQueue } = sessions;
  const queue = newQueue();
  const lease = await one.leaseOne(queue, {}, { leaseMs: 10 });
  expect(await one.heartbeat("worker", [lease], { at: time(1_000) })).toMatchObject([{ result: "accepted" }]);
  expect((await one.claim(queue, { at: time(1_000) })).commands).toEqual([]);
});

test("heartbeat() does not wait for a row that somebody has locked: it is busy, and the others are extended", async () => {
  const { one, two, newQueue } = sessions;
  const leases = await one.lease(newQueue(), [{}, {}, {}]);
  await two.lock(leases[1]?.id ?? "");
  const beat = async () => {
    const rows = await one.heartbeat("worker", leases, { at: time(1_000) });
    return leases.map(({ id }) => rows.find((row) => row.id === id)?.result);
  };
  expect(await beat()).toEqual(["accepted", "busy", "accepted"]);
  await two.rollback();
  expect(await beat()).toEqual(["accepted", "accepted", "accepted"]);
});

test("heartbeat() calls a command busy whose handler holds it in its own open transaction", async () => {
  const { one, two, newQueue } = sessions;
  const lease = await one.leaseOne(newQueue());
  await two.begin();
  expect(await two.end("worker", { ...lease, verdict: "succeeded" })).toBe("accepted");
  expect(await one.heartbeat("worker", [lease])).toMatchObject([{ result: "busy" }]);
  await two.commit();
  expect(await one.heartbeat("worker", [lease])).toMatchObject([{ result: "missing" }]);
});

test("heartbeat() calls missing what another worker, or another lease, holds", async () => {
  const { one, newQueue } = sessions;
  const queue = newQueue();
  const lease = await one.leaseOne(queue, {}, { worker: "w1", leaseMs: 10 });
  expect(await one.heartbeat("w2", [lease])).toMatchObject([{ result: "missing" }]);
  expect(await one.heartbeat("w1", [{ ...lease, id: newId() }])).toMatchObject([{ result: "missing" }]);
  await one.claim(queue, { worker: "w1", at: time(10), leaseMs: 10 });
  const progress = "late";
  expect(await one.heartbeat("w1", [{ ...lease, progress }], { at: time(11) })).toMatchObject([{ result: "missing" }]);
  expect(await one.look(lease.id)).toMatchObject({ available_at: time(20), progress: null });
  await one.end("w1", { ...lease, fence: 2, verdict: "retry" }, { at: time(12) });
  expect(await one.heartbeat("w1", [{ ...lease, fence: 2, progress }])).toMatchObject([{ result: "missing" }]);
});

test("heartbeat() tells a lost lease from the one that the same worker has now", async () => {
  const { one, newQueue } = sessions;
  const queue = newQueue();
  const { id } = await one.leaseOne(queue, {}, { leaseMs: 10 });
  await one.claim(queue, { at: time(10) });
  const rows = await one.heartbeat("worker", [
    { id, fence: 1 },
    { id, fence: 2 },
  ]);
  expect(new Map(rows.map(({ fence, result }) => [fence, result]))).toEqual(
    new Map([
      [1, "missing"],
      [2, "accepted"],
    ]),
  );
});

test("heartbeat() tells that cancellation was requested, also of a row that is busy", async () => {
  const { one, two, newQueue } = sessions;
  const [first, second] = await one.leaseNow(newQueue(), [{}, {}]);
  if (first === undefined || second === undefined) expect.fail();
  await one.cancel([first.id]);
  expect(await one.heartbeat("worker", [first])).toMatchObject([{ result: "accepted", cancel_requested: true }]);
  expect(await one.heartbeat("worker", [second])).toMatchObject([{ result: "accepted", cancel_requested: false }]);
  await two.lock(first.id);
  expect(await one.heartbeat("worker", [first])).toMatchObject([{ result: "busy", cancel_requested: true }]);
});

test("heartbeat() leaves what it does not name alone", async () => {
  const { one, newQueue } = sessions;
  const [named, other] = await one.lease(newQueue(), [{}, {}]);
  await one.heartbeat("worker", [named ?? expect.fail()], { at: time(9_000) });
  expect(await one.look(other?.id ?? "")).toMatchObject({ available_at: time(30_001) });
});
