import { expect, test } from "vitest";
import { queries } from "../../src/sql.generated.ts";
import { type Claimed, type Session, useSessions } from "./session.ts";

const sessions = useSessions();

interface Row {
  readonly id: string | null;
  readonly result: string;
  readonly transaction_id: string;
}

const finishWithin = (session: Session, worker: string, { id, fence }: { id: string; fence: number }) =>
  session.rows<Row>(queries.finishWithin, [worker, JSON.stringify([{ id, fence, verdict: "succeeded" }])]);

/** Leased by the server's own clock, which the function compares leases with. */
async function lease(session: Session, { worker = "w", leaseMs = 30_000 } = {}): Promise<Claimed> {
  const queue = sessions.newQueue();
  await session.push([{ queue }]);
  const [claimed] = (await session.claim(queue, { worker, leaseMs })).commands;
  if (claimed === undefined) throw new Error("Cannot lease a command");
  return claimed;
}

const idleTimeout = async (session: Session): Promise<number> =>
  (
    await session.row<{ ms: number }>(
      "select setting::int as ms from pg_settings where name = 'idle_in_transaction_session_timeout'",
    )
  ).ms;

const isLive = async (session: Session, id: string): Promise<boolean> =>
  (
    await session.row<{ live: boolean }>(
      "select exists (select from orchestratum.command where id::text = $1) as live",
      [id],
    )
  ).live;

test("finish_within() is part of the transaction: undone with it, and settled with it", async () => {
  const { one, two } = sessions;
  const own = await lease(one);
  await one.begin();
  expect(await finishWithin(one, "w", own)).toMatchObject([{ id: own.id, result: "accepted" }]);
  expect(await isLive(two, own.id)).toBe(true);
  await one.rollback();
  expect(await isLive(two, own.id)).toBe(true);
  expect((await two.confirm("w", [own]))[0]?.result).toBe("lost");
  await one.begin();
  const [row] = await finishWithin(one, "w", own);
  expect(row?.transaction_id).toBe((await one.row<{ id: string }>("select pg_current_xact_id()::text as id")).id);
  await one.commit();
  expect(await isLive(two, own.id)).toBe(false);
  expect((await two.confirm("w", [own]))[0]?.result).toBe("repeated");
});

test("finish_within() gives its transaction what is left of the lease, and no transaction after it", async () => {
  const { one } = sessions;
  const own = await lease(one, { leaseMs: 20_000 });
  await one.begin();
  await finishWithin(one, "w", own);
  const left = await idleTimeout(one);
  expect(left).toBeGreaterThan(0);
  expect(left).toBeLessThanOrEqual(20_000);
  await one.commit();
  expect(await idleTimeout(one)).toBe(0);
});

test("finish_within() leaves a shorter timeout as it is", async () => {
  const { one } = sessions;
  const own = await lease(one, { leaseMs: 20_000 });
  await one.begin();
  await one.rows("set local idle_in_transaction_session_timeout = 5000");
  await finishWithin(one, "w", own);
  expect(await idleTimeout(one)).toBe(5_000);
});

test("finish_within() says busy while a heartbeat holds the row, and is accepted after it", async () => {
  const { one, two } = sessions;
  const own = await lease(one);
  await two.begin();
  await two.heartbeat("w", [own]);
  await one.begin();
  expect(await finishWithin(one, "w", own)).toMatchObject([{ result: "busy" }]);
  await two.commit();
  expect(await finishWithin(one, "w", own)).toMatchObject([{ result: "accepted" }]);
  await one.commit();
  expect(await isLive(two, own.id)).toBe(false);
});

test("a heartbeat says busy, not missing, while the transaction of a finish_within() is open", async () => {
  const { one, two } = sessions;
  const own = await lease(one);
  await one.begin();
  await finishWithin(one, "w", own);
  expect(await two.heartbeat("w", [own])).toMatchObject([{ result: "busy" }]);
});

test("finish_within() answers nothing for a lease that is over, or somebody else's", async () => {
  const { one } = sessions;
  const over = await lease(one, { leaseMs: 0 });
  expect(await finishWithin(one, "w", over)).toEqual([]);
  const own = await lease(one);
  expect(await finishWithin(one, "other", own)).toEqual([]);
  expect(await finishWithin(one, "w", { ...own, fence: 2 })).toEqual([]);
  expect(await isLive(one, own.id)).toBe(true);
});

test.each(["repeatable read", "serializable"])("finish_within() refuses a transaction that is %s", async (level) => {
  const { one } = sessions;
  const own = await lease(one);
  await one.begin();
  await one.rows(`set transaction isolation level ${level}`);
  await expect(finishWithin(one, "w", own)).rejects.toThrow("needs read committed");
});
