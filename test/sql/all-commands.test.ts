import { expect, test } from "vitest";
import { queries } from "../../src/sql.generated.ts";
import { newId, type Session, time, useSessions } from "./session.ts";

const sessions = useSessions();

/** As the view has them, times as text in UTC. */
async function rows(session: Session, id: string): Promise<Record<string, unknown>[]> {
  await session.begin();
  await session.rows("set local timezone = 'UTC'");
  const found = await session.rows<{ row: string }>(
    "select to_json(a)::text as row from orchestratum.all_commands a where a.id = $1::text::uuid",
    [id],
  );
  await session.commit();
  return found.map(({ row }) => JSON.parse(row, (_, value: unknown) => asTime(value)));
}

const asTime = (value: unknown): unknown =>
  typeof value === "string" && /^\d{4}-\d{2}-\d{2}T/.test(value)
    ? value.replace("T", " ").replace("+00:00", "+00")
    : value;

test("all_commands has a row for a command that waits, with every field", async () => {
  const { one, newQueue } = sessions;
  const [id, parent, queue] = [newId(), newId(), newQueue()];
  const command = { id, queue, name: "a", version: 2, hook: "failure", priority: 3, parent_id: parent };
  await one.push(
    [{ ...command, due_at: time(-5), max_attempts: 4, timeout_ms: 7, input: { a: 1 }, metadata: { b: 2 } }],
    { at: time(0) },
  );
  expect(await rows(one, id)).toEqual([
    {
      id,
      queue,
      name: "a",
      version: 2,
      hook: "failure",
      priority: 3,
      status: "pending",
      input: { a: 1 },
      output: null,
      progress: null,
      created_at: time(0),
      due_at: time(-5),
      next_attempt_at: time(0),
      timeout_ms: 7,
      running_since: null,
      lease_ends_at: null,
      worker: null,
      started_at: null,
      finished_at: null,
      completed_at: null,
      cancelled_at: null,
      failed_at: null,
      cancel_requested_at: null,
      unknown_since: null,
      fence: 0,
      attempt: 0,
      max_attempts: 4,
      retries_left: 4,
      losses: 0,
      parent_id: parent,
      metadata: { b: 2 },
      trail: null,
    },
  ]);
});

test("all_commands has what is scheduled, parked, running, and left behind by a worker", async () => {
  const { one, newQueue } = sessions;
  const queue = newQueue();
  const [scheduled, parked] = await one.push([{ queue, delay_ms: 60_000 }, { queue }]);
  await one.rows("update orchestratum.command set available_at = 'infinity' where id = $1::text::uuid", [
    parked?.id ?? "",
  ]);
  expect(await rows(one, scheduled?.id ?? "")).toMatchObject([{ status: "scheduled", lease_ends_at: null }]);
  expect(await rows(one, parked?.id ?? "")).toMatchObject([{ status: "scheduled" }]);

  const [running] = await one.leaseNow(newQueue());
  await one.heartbeat("worker", [{ id: running?.id ?? "", fence: 1, progress: { done: 1 } }]);
  const known = await one.look(running?.id ?? "");
  expect(await rows(one, running?.id ?? "")).toMatchObject([
    {
      status: "running",
      worker: "worker",
      progress: { done: 1 },
      started_at: known.started_at,
      running_since: known.started_at,
      lease_ends_at: known.available_at,
      attempt: 1,
      retries_left: 3,
    },
  ]);

  const lost = await one.leaseOne(newQueue(), { max_attempts: 1 });
  expect(await rows(one, lost.id)).toMatchObject([
    { status: "pending", worker: "worker", running_since: null, lease_ends_at: time(30_000), retries_left: 0 },
  ]);
});

test("all_commands never counts more attempts than a command has", async () => {
  const { one, newQueue } = sessions;
  const queue = newQueue();
  const { id } = await one.leaseOne(queue, { max_attempts: 1 }, { leaseMs: 10 });
  await one.claim(queue, { at: time(10) });
  expect(await rows(one, id)).toMatchObject([{ attempt: 1, max_attempts: 1, retries_left: 0, losses: 1 }]);
});

test.each([
  { verdict: "succeeded", ended: "completed_at" },
  { verdict: "failed", ended: "failed_at" },
  { verdict: "timed_out", ended: "failed_at" },
  { verdict: "not_found", ended: "failed_at" },
  { verdict: "cancelled", ended: "cancelled_at" },
])("all_commands has one row for what ended as $verdict, with the time as $ended", async ({ verdict, ended }) => {
  const { one, newQueue } = sessions;
  const [queue, parent] = [newQueue(), newId()];
  const lease = await one.leaseOne(queue, { name: "a", parent_id: parent, input: 1, metadata: { b: 2 } });
  await one.end("worker", { id: lease.id, fence: 1, verdict, output: { a: 1 } }, { at: time(5) });
  expect(await rows(one, lease.id)).toEqual([
    {
      id: lease.id,
      queue,
      name: "a",
      version: 1,
      hook: null,
      priority: 5,
      status: verdict,
      input: 1,
      output: { a: 1 },
      progress: null,
      created_at: time(0),
      due_at: time(0),
      next_attempt_at: null,
      timeout_ms: 60_000,
      running_since: null,
      lease_ends_at: null,
      worker: "worker",
      started_at: time(0),
      finished_at: time(5),
      completed_at: null,
      cancelled_at: null,
      failed_at: null,
      [ended]: time(5),
      cancel_requested_at: null,
      unknown_since: null,
      fence: 1,
      attempt: 1,
      max_attempts: 4,
      retries_left: 3,
      losses: 0,
      parent_id: parent,
      metadata: { b: 2 },
      trail: null,
    },
  ]);
});

test("all_commands tells the same status as get()", async () => {
  const { one } = sessions;
  const found = await one.rows<{ id: string; status: string }>(
    "select id::text as id, status from orchestratum.all_commands",
  );
  const known = await one.get(found.map(({ id }) => id));
  expect(new Map(known.map(({ id, status }) => [id, status]))).toEqual(
    new Map(found.map(({ id, status }) => [id, status])),
  );
  expect(new Set(found.map(({ status }) => status)).size).toBe(8);
});

test("all_commands is what count_commands counts, hook commands where they are asked for", async () => {
  const { one, newQueue } = sessions;
  const queue = newQueue();
  const lease = await one.leaseOne(queue);
  await one.end("worker", { ...lease, verdict: "failed" });
  await one.push([{ queue }, { queue }, { queue, hook: "failure" }, { queue, delay_ms: 60_000 }]);
  const counts = async (isComplete: boolean, hooks = false) =>
    (
      await one.rows<{ queue: string; status: string; count: string }>(queries.countCommands, [isComplete, hooks])
    ).filter((row) => row.queue === queue);
  const live = [
    { queue, status: "pending", count: "2" },
    { queue, status: "scheduled", count: "1" },
  ];
  expect(await counts(false)).toEqual(live);
  expect(await counts(true)).toEqual([{ queue, status: "failed", count: "1" }, ...live]);
  expect((await counts(false, true))[0]).toEqual({ queue, status: "pending", count: "3" });
});
