import { expect, test } from "vitest";
import { newId, registerHandler, time, useSessions } from "./session.ts";

const sessions = useSessions();

test("cancel() ends what waits, at once and with no worker", async () => {
  const { one, newQueue } = sessions;
  const queue = newQueue();
  const pushed = await one.push([{ queue }, { queue, delay_ms: 86_400_000 }]);
  const ids = pushed.map(({ id }) => id);
  const { results, due } = await one.cancel(ids);
  expect([...results].toSorted()).toEqual(ids.map((id) => [id, "cancelled"]).toSorted());
  expect(due).toEqual([]);
  for (const id of ids) {
    const known = await one.look(id);
    expect(known).toMatchObject({
      status: "cancelled",
      fence: 1,
      attempt: 0,
      losses: 0,
      worker: "cancel",
      trail: null,
    });
    expect(known.cancel_requested_at).not.toBeNull();
    expect(known.started_at).toBeNull();
  }
  expect(await one.claim(queue)).toMatchObject({ commands: [], more: false });
});

test("cancel() ends what waits to be tried again, and keeps its trail", async () => {
  const { one, newQueue } = sessions;
  const lease = await one.leaseOne(newQueue());
  await one.end("worker", { ...lease, verdict: "retry", error: { message: "It broke" } }, { at: time(1) });
  expect((await one.cancel([lease.id])).results.get(lease.id)).toBe("cancelled");
  expect(await one.look(lease.id)).toMatchObject({ status: "cancelled", fence: 2, attempt: 1 });
  expect(await one.trail(lease.id)).toMatchObject([{ message: "It broke", fence: 1 }]);
});

test("cancel() requests it of what runs, and the first request stands", async () => {
  const { one, newQueue } = sessions;
  const [lease] = await one.leaseNow(newQueue());
  const id = lease?.id ?? "";
  expect((await one.cancel([id])).results.get(id)).toBe("requested");
  const requested = await one.look(id);
  expect(requested).toMatchObject({ status: "running", worker: "worker", fence: 1, attempt: 1 });
  expect(requested.cancel_requested_at).not.toBeNull();
  expect((await one.cancel([id])).results.get(id)).toBe("requested");
  expect(await one.look(id)).toEqual(requested);
});

test("cancel() ends what a lost worker left behind, with the loss in the trail", async () => {
  const { one, newQueue } = sessions;
  const lease = await one.leaseOne(newQueue(), {}, { worker: "w1" });
  expect((await one.cancel([lease.id])).results.get(lease.id)).toBe("cancelled");
  expect(await one.look(lease.id)).toMatchObject({ status: "cancelled", fence: 2, losses: 1 });
  expect(await one.trail(lease.id)).toMatchObject([
    { code: "lost", message: "Its lease ended without a word", fence: 1, attempt: 1, worker: "w1" },
  ]);
  expect(await one.end("w1", { ...lease, verdict: "succeeded" })).toBe("missing");
});

test("cancel() does not wait for what somebody has locked: it is busy", async () => {
  const { one, two, newQueue } = sessions;
  const queue = newQueue();
  const pushed = await one.push([{ queue }, { queue }]);
  const [held, free] = pushed.map(({ id }) => id);
  if (held === undefined || free === undefined) expect.fail();
  await two.lock(held);
  expect((await one.cancel([held, free])).results).toEqual(
    new Map([
      [held, "busy"],
      [free, "cancelled"],
    ]),
  );
  expect(await one.look(held)).toMatchObject({ status: "pending", cancel_requested_at: null });
  await two.rollback();
  expect((await one.cancel([held])).results.get(held)).toBe("cancelled");
});

test("cancel() is busy with what a claim is about to lease, and then requests it", async () => {
  const { one, two, newQueue } = sessions;
  const queue = newQueue();
  const [pushed] = await one.push([{ queue }]);
  const id = pushed?.id ?? "";
  await two.begin();
  expect((await two.claim(queue)).commands).toHaveLength(1);
  expect((await one.cancel([id])).results.get(id)).toBe("busy");
  await two.commit();
  expect((await one.cancel([id])).results.get(id)).toBe("requested");
});

test("cancel() says of what has ended that it is too late, and of the rest that it is unknown", async () => {
  const { one, newQueue } = sessions;
  const lease = await one.leaseOne(newQueue());
  await one.end("worker", { ...lease, verdict: "succeeded" });
  const unknown = newId();
  const { results } = await one.cancel([lease.id, unknown, lease.id]);
  expect(results).toEqual(
    new Map([
      [lease.id, "finished"],
      [unknown, "unknown"],
    ]),
  );
  expect(await one.look(lease.id)).toMatchObject({ status: "succeeded", cancel_requested_at: null });
  expect((await one.cancel([])).results).toEqual(new Map());
});

test("cancel() pushes the hook, and says in which queue it is due", async () => {
  const { one, newQueue } = sessions;
  const queue = newQueue();
  await registerHandler(one, { name: queue, hooks: ["cancellation"] });
  const [pushed] = await one.push([{ name: queue, queue, input: { a: 1 }, awaited: true, delay_ms: 60_000 }]);
  const id = pushed?.id ?? "";
  const { due, awaited } = await one.cancel([id]);
  expect(awaited).toEqual([id]);
  expect(due).toMatchObject([{ queue }]);
  const { commands } = await one.claim(queue);
  expect(commands).toMatchObject([
    { name: queue, hook: "cancellation", parent_id: id, available_at: due[0]?.available_at },
  ]);
  expect(JSON.parse(commands[0]?.input ?? "")).toEqual({ input: { a: 1 }, status: "cancelled", error: null });

  expect((await one.cancel([id])).due).toEqual([]);
});

test("cancel() of 500 with one row locked ends the other 499, and stops no heartbeat", async () => {
  const { one, two, three, newQueue } = sessions;
  const [queue, running] = [newQueue(), newQueue()];
  const pushed = await one.push(Array.from({ length: 490 }, () => ({ queue })));
  const leases = await one.leaseNow(
    running,
    Array.from({ length: 10 }, () => ({})),
  );
  const [other] = await one.leaseNow(newQueue());
  const held = pushed[123]?.id ?? "";
  await two.lock(held);

  await one.begin();
  const { results } = await one.cancel([...pushed, ...leases].map(({ id }) => id));
  const count = (wanted: string): number => [...results.values()].filter((result) => result === wanted).length;
  expect({ cancelled: count("cancelled"), requested: count("requested") }).toEqual({ cancelled: 489, requested: 10 });
  expect(results.get(held)).toBe("busy");
  // Its transaction is still open: those that it has in hand are busy, and the others get their heartbeat.
  const beats = await three.heartbeat("worker", [...leases, other ?? expect.fail()]);
  expect(new Map(beats.map(({ id, result }) => [id, result]))).toEqual(
    new Map([...leases.map(({ id }): [string, string] => [id, "busy"]), [other?.id ?? "", "accepted"]]),
  );
  await one.commit();
  expect(await three.heartbeat("worker", leases)).toHaveLength(10);
  await two.rollback();
  expect((await one.claim(queue)).commands).toMatchObject([{ id: held }]);
});
