import { expect, test } from "vitest";
import { time, useSessions } from "./session.ts";

const sessions = useSessions();

test("next_due() answers when something is due first after the clock given", async () => {
  const { one, newQueue } = sessions;
  const queue = newQueue();
  await one.push([{ queue, delay_ms: 20 }, { queue, delay_ms: 10 }, { queue }], { at: time(0) });
  expect(await one.nextDue([queue], time(-1))).toBe(time(0, 2));
  expect(await one.nextDue([queue], time(0, 1))).toBe(time(0, 2));
  expect(await one.nextDue([queue], time(0, 2))).toBe(time(10, 1));
  expect(await one.nextDue([queue], time(10, 1))).toBe(time(20));
  expect(await one.nextDue([queue], time(20))).toBeNull();
});

test("next_due() counts what fell due since the clock given, whatever time it is", async () => {
  const { one, newQueue } = sessions;
  const queue = newQueue();
  const { clock, more } = await one.claim(queue, { at: time(0) });
  expect(more).toBe(false);
  // Years ago by the server's own clock.
  await one.push([{ queue }], { at: time(1) });
  expect(await one.nextDue([queue], clock)).toBe(time(1));
});

test("next_due() looks at every priority of the queues given, and at no other queue", async () => {
  const { one, newQueue } = sessions;
  const [a, b, other] = [newQueue(), newQueue(), newQueue()];
  await one.push(
    [
      { queue: a, priority: 9, delay_ms: 30 },
      { queue: b, priority: 0, delay_ms: 20 },
      { queue: other, delay_ms: 10 },
    ],
    { at: time(0) },
  );
  expect(await one.nextDue([a], time(0))).toBe(time(30));
  expect(await one.nextDue([a, b], time(0))).toBe(time(20, 1));
  expect(await one.nextDue([], time(0))).toBeNull();
});

test("next_due() counts leases, which end then, and retries", async () => {
  const { one, newQueue } = sessions;
  const queue = newQueue();
  const lease = await one.leaseOne(queue, {}, { leaseMs: 1_000 });
  expect(await one.nextDue([queue], time(0))).toBe(time(1_000));
  await one.end("worker", { ...lease, verdict: "retry", delay_ms: 300 }, { at: time(5) });
  expect(await one.nextDue([queue], time(5))).toBe(time(305));
});

test("next_due() ignores what is parked", async () => {
  const { one, newQueue } = sessions;
  const queue = newQueue();
  const [parked] = await one.push([{ queue }], { at: time(0) });
  await one.rows("update orchestratum.command set available_at = 'infinity' where id = $1::text::uuid", [
    parked?.id ?? "",
  ]);
  expect(await one.nextDue([queue], time(0))).toBeNull();
  await one.push([{ queue, priority: 2 }], { at: time(7) });
  expect(await one.nextDue([queue], time(0))).toBe(time(7));
});
