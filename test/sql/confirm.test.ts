import { expect, test } from "vitest";
import { newId, time, useSessions } from "./session.ts";

const sessions = useSessions();

const confirmed = async (worker: string, { id, fence }: { id: string; fence: number }): Promise<string | undefined> => {
  const rows = await sessions.one.confirm(worker, [{ id, fence }]);
  expect(rows).toMatchObject([{ id, fence }]);
  return rows[0]?.result;
};

test.each(["succeeded", "failed", "cancelled", "timed_out", "not_found"])(
  "confirm() says repeated of a lease that ended its command as %s",
  async (verdict) => {
    const { one, newQueue } = sessions;
    const lease = await one.leaseOne(newQueue(), {}, { worker: "w1" });
    expect(await confirmed("w1", lease)).toBe("lost");
    await one.end("w1", { ...lease, verdict });
    expect(await confirmed("w1", lease)).toBe("repeated");
    // After a failover that lost a claim, the same fence may have been given to two workers.
    expect(await confirmed("w2", lease)).toBe("lost");
    expect(await confirmed("w1", { ...lease, fence: 2 })).toBe("lost");
  },
);

test("confirm() says repeated of a retry, while the command lives and after its end", async () => {
  const { one, newQueue } = sessions;
  const queue = newQueue();
  const lease = await one.leaseOne(queue, {}, { worker: "w1" });
  await one.end("w1", { ...lease, verdict: "retry", error: { message: "It broke" } }, { at: time(1) });
  expect(await confirmed("w1", lease)).toBe("repeated");
  expect(await confirmed("w2", lease)).toBe("lost");
  const [next] = (await one.claim(queue, { at: time(2), worker: "w2" })).commands;
  expect(await confirmed("w1", lease)).toBe("repeated");
  await one.end("w2", { ...(next ?? expect.fail()), verdict: "succeeded" });
  expect(await confirmed("w1", lease)).toBe("repeated");
  expect(await confirmed("w2", { id: lease.id, fence: 2 })).toBe("repeated");
  expect(await confirmed("w1", { id: lease.id, fence: 2 })).toBe("lost");
});

test("confirm() says lost of a lease that expired and was claimed, while the command lives and after its end", async () => {
  const { one, newQueue } = sessions;
  const queue = newQueue();
  const lease = await one.leaseOne(queue, {}, { worker: "w1", leaseMs: 10 });
  const [next] = (await one.claim(queue, { at: time(10), worker: "w2" })).commands;
  expect(await confirmed("w1", lease)).toBe("lost");
  await one.end("w2", { ...(next ?? expect.fail()), verdict: "failed", error: { message: "It broke" } });
  expect(await confirmed("w1", lease)).toBe("lost");
  expect(await confirmed("w2", { id: lease.id, fence: 2 })).toBe("repeated");
});

test("confirm() says lost of a lease that was handed back, while the command lives and after its end", async () => {
  const { one, newQueue } = sessions;
  const queue = newQueue();
  const lease = await one.leaseOne(queue, {}, { worker: "w1" });
  expect(await one.giveBack("w1", [{ queue }], [], { at: time(100) })).toBe(1);
  expect(await confirmed("w1", lease)).toBe("lost");
  const [next] = (await one.claim(queue, { at: time(101), worker: "w1" })).commands;
  await one.end("w1", { ...(next ?? expect.fail()), verdict: "succeeded" });
  expect(await confirmed("w1", lease)).toBe("lost");
  expect(await confirmed("w1", { id: lease.id, fence: 2 })).toBe("repeated");
});

test("confirm() says lost of what was taken by a cancel, and of what nobody knows", async () => {
  const { one, newQueue } = sessions;
  const lease = await one.leaseOne(newQueue());
  await one.cancel([lease.id]);
  expect(await confirmed("worker", lease)).toBe("lost");
  expect(await confirmed("worker", { id: newId(), fence: 1 })).toBe("lost");
});

test("confirm() says lost of a release without an entry in the trail, which does no harm", async () => {
  const { one, newQueue } = sessions;
  const lease = await one.leaseOne(newQueue());
  await one.end("worker", { ...lease, verdict: "release" });
  expect(await confirmed("worker", lease)).toBe("lost");
});

test("confirm() answers each of many leases", async () => {
  const { one, newQueue } = sessions;
  const leases = await one.lease(newQueue(), [{}, {}, {}]);
  await one.end("worker", { ...(leases[1] ?? expect.fail()), verdict: "succeeded" });
  const rows = await one.confirm("worker", leases);
  expect(leases.map(({ id }) => rows.find((row) => row.id === id)?.result)).toEqual(["lost", "repeated", "lost"]);
});
