import { expect, test } from "vitest";
import { jsonTime, newId, time, useSessions } from "./session.ts";

const sessions = useSessions();

test("get() answers everything about a command that runs", async () => {
  const { one, newQueue } = sessions;
  const [parent, queue] = [newId(), newQueue()];
  const command = { name: "a", version: 2, hook: "failure", parent_id: parent, input: { a: 1 }, metadata: { b: 2 } };
  const lost = await one.leaseOne(
    queue,
    { ...command, max_attempts: 3, timeout_ms: 7, due_at: time(-9) },
    { worker: "w1", leaseMs: 10 },
  );
  await one.claim(queue, { at: time(10), worker: "w2", leaseMs: 1_000 });
  await one.heartbeat("w2", [{ id: lost.id, fence: 2, progress: [1] }], { at: time(20), leaseMs: 1_000 });
  await one.rows(
    "update orchestratum.command set cancel_requested_at = $2::text::timestamptz where id = $1::text::uuid",
    [lost.id, time(15)],
  );
  const known = await one.look(lost.id, { at: time(20) });
  expect({ ...known, trail: JSON.parse(known.trail ?? "") }).toEqual({
    id: lost.id,
    name: "a",
    version: 2,
    hook: "failure",
    queue,
    priority: 5,
    status: "running",
    input: '{"a":1}',
    output: null,
    progress: "[1]",
    metadata: '{"b":2}',
    trail: [
      {
        code: "lost",
        message: "Its lease ended without a word",
        fence: 1,
        attempt: 1,
        worker: "w1",
        started_at: jsonTime(0),
        ended_at: jsonTime(10),
      },
    ],
    fence: 2,
    attempt: 2,
    max_attempts: 3,
    losses: 1,
    timeout_ms: 7,
    worker: "w2",
    parent_id: parent,
    created_at: time(0),
    due_at: time(-9),
    available_at: time(1_020),
    started_at: time(10),
    finished_at: null,
    cancel_requested_at: time(15),
    unknown_since: null,
  });
});

test("get() tells scheduled, pending and running apart by its clock", async () => {
  const { one, newQueue } = sessions;
  const queue = newQueue();
  const [pushed] = await one.push([{ queue, delay_ms: 10 }], { at: time(0) });
  const id = pushed?.id ?? "";
  const status = async (ms: number): Promise<string> => (await one.look(id, { at: time(ms) })).status;
  expect([await status(9), await status(10)]).toEqual(["scheduled", "pending"]);
  await one.claim(queue, { at: time(10), leaseMs: 100 });
  // A lease that expired waits for whoever claims it.
  expect([await status(10), await status(109), await status(110)]).toEqual(["running", "running", "pending"]);
  await one.end("worker", { id, fence: 1, verdict: "retry", delay_ms: 50 }, { at: time(50) });
  expect([await status(99), await status(100)]).toEqual(["scheduled", "pending"]);
});

test.each(["succeeded", "failed", "cancelled", "timed_out", "not_found"])(
  "get() answers how a command ended: %s",
  async (verdict) => {
    const { one, newQueue } = sessions;
    const lease = await one.leaseOne(newQueue(), { input: 1 });
    await one.end("worker", { ...lease, verdict, output: { a: 1 } }, { at: time(5) });
    expect(await one.look(lease.id)).toMatchObject({
      status: verdict,
      input: "1",
      output: '{"a":1}',
      finished_at: time(5),
      available_at: null,
      worker: "worker",
    });
  },
);

test("get() answers each command once, and nothing for an unknown id", async () => {
  const { one, newQueue } = sessions;
  const [live, finished] = await one.lease(newQueue(), [{}, {}]);
  if (live === undefined || finished === undefined) expect.fail();
  await one.end("worker", { ...finished, verdict: "succeeded" });
  const known = await one.get([newId(), live.id, finished.id, live.id]);
  expect(known.map(({ id }) => id).toSorted()).toEqual([live.id, finished.id].toSorted());
  expect(await one.get([])).toEqual([]);
});

test("get() never counts more attempts than a command has", async () => {
  const { one, newQueue } = sessions;
  const queue = newQueue();
  const { id } = await one.leaseOne(queue, { max_attempts: 1 }, { leaseMs: 10 });
  expect((await one.claim(queue, { at: time(10) })).commands).toMatchObject([{ attempt: 2 }]);
  expect(await one.look(id)).toMatchObject({ attempt: 1, max_attempts: 1 });
});
