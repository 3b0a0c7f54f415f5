import { expect, test } from "vitest";
import { queries } from "../../src/sql.generated.ts";
import { newId, type Session, useSessions } from "./session.ts";

const sessions = useSessions();

interface Row {
  readonly id: string | null;
  readonly result: string;
  readonly queue: string;
  readonly available_at: string;
}

async function retry(session: Session, ids: readonly string[], change: object | null = null, by: string | null = null) {
  const params = [JSON.stringify(ids), change && JSON.stringify(change), by, null];
  const rows = await session.rows<Row>(queries.retry, params);
  return {
    results: new Map(rows.filter(({ id }) => id !== null).map(({ id, result }) => [id, result])),
    due: rows.filter(({ id }) => id === null).map(({ queue, available_at }) => ({ queue, available_at })),
  };
}

async function failed(session: Session, queue: string, command: object = {}): Promise<string> {
  const lease = await session.leaseOne(queue, command);
  expect(await session.end("worker", { ...lease, verdict: "failed", error: { message: "broken" } })).toBe("accepted");
  return lease.id;
}

const acts = (session: Session) =>
  session.rows("select a.by_whom, a.kind, a.target, a.affected from orchestratum.act a order by a.id desc limit 1");

test("retry() moves a row back with its id, trail and fence, and clears what would end it", async () => {
  const { one, newQueue } = sessions;
  const queue = newQueue();
  const [lease] = await one.leaseNow(queue, [
    {
      input: { a: 1e300 },
      metadata: { b: 1 },
      priority: 5,
      max_attempts: 2,
      timeout_ms: 7,
      awaited: true,
      parent_id: newId(),
    },
  ]);
  if (!lease) expect.fail();
  const { id } = lease;
  await one.rows("update orchestratum.command set losses = 2, unknown_since = now() where id = $1::text::uuid", [id]);
  await one.cancel([id]);
  await one.end("worker", { ...lease, verdict: "failed", error: { message: "broken" } });
  const before = await one.look(id);
  expect(before).toMatchObject({ status: "cancelled", losses: 2 });
  const { results, due } = await retry(one, [id]);
  expect(results).toEqual(new Map([[id, "retried"]]));
  const after = await one.look(id);
  expect(after).toEqual({
    ...before,
    status: "pending",
    attempt: 0,
    losses: 0,
    worker: null,
    available_at: expect.any(String),
    due_at: after.available_at,
    started_at: null,
    finished_at: null,
    cancel_requested_at: null,
    unknown_since: null,
  });
  expect(due).toEqual([{ queue, available_at: after.available_at }]);
  expect(await one.rows("select from orchestratum.history where id = $1::text::uuid", [id])).toEqual([]);
  expect((await one.waitFor([id]))[0]).toMatchObject({ result: "waiting" });
  const { commands } = await one.claim([{ queue, mark_at: after.available_at }]);
  expect(commands).toMatchObject([{ id, purpose: "run", attempt: 1, fence: (before.fence ?? 0) + 1, max_attempts: 2 }]);
});

test("retry() says of what lives that it is unfinished, also where history should know it, too", async () => {
  const { one, newQueue } = sessions;
  const queue = newQueue();
  const id = await failed(one, queue);
  const [waiting] = await one.push([{ queue }]);
  const none = newId();
  await one.begin();
  await one.push([{ id, queue }]);
  expect((await retry(one, [id, waiting?.id ?? "", none])).results).toEqual(
    new Map([
      [id, "unfinished"],
      [waiting?.id, "unfinished"],
      [none, "unknown"],
    ]),
  );
  expect(await one.rows("select from orchestratum.history where id = $1::text::uuid", [id])).toHaveLength(1);
});

test("retry() does not wait for what somebody has locked: it is busy, and nothing is lost", async () => {
  const { one, two, newQueue } = sessions;
  const queue = newQueue();
  const [held, free] = [await failed(one, queue), await failed(one, queue)];
  await two.begin();
  await two.rows("select from orchestratum.history where id = $1::text::uuid for update", [held]);
  expect((await retry(one, [held, free])).results).toEqual(
    new Map([
      [held, "busy"],
      [free, "retried"],
    ]),
  );
  await two.rollback();
  expect((await retry(one, [held])).results.get(held)).toBe("retried");
  // Two at once: the second finds nothing left to move.
  const third = await failed(one, queue);
  await two.begin();
  await retry(two, [third]);
  expect((await retry(one, [third])).results.get(third)).toBe("busy");
  await two.commit();
  expect((await retry(one, [third])).results.get(third)).toBe("unfinished");
});

test("retry() keeps rows of different partitions apart, and the order asked for", async () => {
  const { one, newQueue } = sessions;
  const queue = newQueue();
  // The first row of its partition each: the same place in the table.
  const ids: string[] = [];
  for (const slot of [3, 4, 20]) {
    const id = await failed(one, queue);
    await one.rows(`update orchestratum.history set slot = ${slot} where id = $1::text::uuid`, [id]);
    ids.push(id);
  }
  const left = ids.splice(1, 1);
  const asked = ids.toReversed();
  const { results, due } = await retry(one, asked, null, "ada");
  expect([...results.values()]).toEqual(["retried", "retried"]);
  expect(due).toHaveLength(1);
  expect(await one.look(left[0] ?? "")).toMatchObject({ status: "failed" });
  const { commands } = await one.claim(queue);
  expect(commands.map(({ id }) => id)).toEqual(asked);
  expect(await acts(one)).toMatchObject([{ by_whom: "ada", kind: "retry", affected: 2 }]);
});

test("retry() replaces the input where one is given, JSON's null among them, and notes no act for nothing", async () => {
  const { one, newQueue } = sessions;
  const queue = newQueue();
  const id = await failed(one, queue, { input: { a: 1 } });
  expect((await retry(one, [id], { input: null }, "eve")).results.get(id)).toBe("retried");
  expect((await one.look(id)).input).toBe("null");
  const before = await acts(one);
  expect(before).toMatchObject([{ by_whom: "eve", affected: 1 }]);
  await retry(one, [id, newId()], null, "mallory");
  expect(await acts(one)).toEqual(before);
});

test("retry() is busy with an id that somebody pushes again in an open transaction, and goes on with the others", async () => {
  const { one, two, newQueue } = sessions;
  const queue = newQueue();
  const [before, twin, after] = [await failed(one, queue), await failed(one, queue), await failed(one, queue)];
  await two.begin();
  await two.push([{ id: twin, queue }]);
  expect((await retry(one, [before, twin, after], null, "ada")).results).toEqual(
    new Map([
      [before, "retried"],
      [twin, "busy"],
      [after, "retried"],
    ]),
  );
  expect(await acts(one)).toMatchObject([{ by_whom: "ada", target: { ids: [before, after] }, affected: 2 }]);
  const { commands } = await one.claim(queue);
  expect(commands.map(({ id }) => id)).toEqual([before, after]);
  await two.commit();
  // Pushed without looking at history, it lives: it is not to be had twice.
  expect((await retry(one, [twin])).results.get(twin)).toBe("unfinished");
});

test("retry() makes a command due anew: what it waited before is not counted again", async () => {
  const { one, newQueue } = sessions;
  const id = await failed(one, newQueue(), { due_at: "2025-01-01T00:00:00Z" });
  await retry(one, [id]);
  const known = await one.look(id);
  expect(known.due_at).toBe(known.available_at);
});

test("retry() with another input lets a repeated push of the first one be what it is", async () => {
  const { one, newQueue } = sessions;
  const queue = newQueue();
  const first = { id: newId(), queue, input: { a: 1 } };
  const id = await failed(one, queue, first);
  await retry(one, [id]);
  await expect(one.push([{ ...first, input: { a: 3 } }], { repeat: true })).rejects.toMatchObject({ code: "OR001" });
  const [lease] = (await one.claim(queue)).commands;
  await one.end("worker", { id, fence: lease?.fence ?? 0, verdict: "failed", error: {} });
  await retry(one, [id], { input: { a: 2 } });
  expect(await one.push([first], { repeat: true })).toEqual([]);
  expect((await one.look(id)).input).toBe('{"a":2}');
  await expect(one.push([{ ...first, name: "other" }], { repeat: true })).rejects.toMatchObject({ code: "OR001" });
});
