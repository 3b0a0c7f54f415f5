import { expect, test } from "vitest";
import { queries } from "../../src/sql.generated.ts";
import { newId, type Session, time, useSessions } from "./session.ts";

const sessions = useSessions();

const hourMs = 3_600_000;
const dayMs = 24 * hourMs;

const expire = async (session: Session, at: string): Promise<number | null> =>
  (
    await session.row<{ slot: number | null }>("select orchestratum.expire_history($1::text::timestamptz) as slot", [
      at,
    ])
  ).slot;

const slotAt = async (session: Session, at: string, succeeded: boolean): Promise<number> =>
  (
    await session.row<{ slot: number }>(
      "select orchestratum.history_slot($1::text::timestamptz, $2::boolean) as slot",
      [at, succeeded],
    )
  ).slot;

/** A command that ended at a time, by its id. */
async function ended(session: Session, at: string, verdict = "succeeded"): Promise<string> {
  const lease = await session.leaseOne(sessions.newQueue(), {}, { at });
  expect(await session.end("worker", { ...lease, verdict }, { at })).toBe("accepted");
  return lease.id;
}

const has = async (session: Session, id: string): Promise<boolean> => (await session.get([id])).length > 0;

async function emptied(session: Session): Promise<void> {
  await session.rows("truncate orchestratum.history");
  await session.rows("update orchestratum.setting set keep_succeeded = '7 days', keep_other = '30 days'");
}

test("history_slot() turns through each ring once in sixteen fourteenths of what is kept", async () => {
  const { one } = sessions;
  await emptied(one);
  for (const { succeeded, first, turnMs } of [
    { succeeded: true, first: 0, turnMs: (7 * dayMs) / 14 },
    { succeeded: false, first: 16, turnMs: (30 * dayMs) / 14 },
  ]) {
    const slots: number[] = [];
    for (let turn = 0; turn < 17; turn += 1) {
      slots.push(
        await slotAt(
          one,
          new Date(Math.ceil(1_000_000_000_000 / turnMs) * turnMs + turn * turnMs + 1).toISOString(),
          succeeded,
        ),
      );
    }
    const [start = 0] = slots;
    expect(slots).toEqual(slots.map((_, turn) => first + ((start - first + turn) % 16)));
    expect(new Set(slots).size).toBe(16);
  }
});

test("history_slot() follows the settings, and takes no retention under an hour", async () => {
  const { one } = sessions;
  await emptied(one);
  const times = [0, 1, 2, 3, 4].map((hours) => time(dayMs + hours * hourMs + 1));
  const slots = async (succeeded: boolean) =>
    new Set(await Promise.all(times.map((at) => slotAt(one, at, succeeded)))).size;
  expect([await slots(true), await slots(false)]).toEqual([1, 1]);
  await one.rows("update orchestratum.setting set keep_succeeded = '14 hours'");
  expect([await slots(true), await slots(false)]).toEqual([5, 1]);
  await one.rows("update orchestratum.setting set keep_other = '14 hours'");
  expect([await slots(true), await slots(false)]).toEqual([5, 5]);
  const [turn] = await one.rows<{ turn_ms: number }>(queries.historyTurn);
  expect(turn).toEqual({ turn_ms: hourMs });
  await expect(one.rows("update orchestratum.setting set keep_other = '59 minutes'")).rejects.toMatchObject({
    code: "23514",
  });
});

test("expire_history() empties a slot when its newest row is past what is kept, and only that slot", async () => {
  const { one } = sessions;
  await emptied(one);
  const [first, newest, later, bad] = [
    await ended(one, time(1)),
    await ended(one, time(10)),
    await ended(one, time(dayMs)),
    await ended(one, time(1), "failed"),
  ];
  expect(await expire(one, time(7 * dayMs + 10))).toBeNull();
  expect(await expire(one, time(7 * dayMs + 11))).toBe(await slotAt(one, time(1), true));
  expect([await has(one, first), await has(one, newest), await has(one, later), await has(one, bad)]).toEqual([
    false,
    false,
    true,
    true,
  ]);
  expect(await expire(one, time(7 * dayMs + 11))).toBeNull();
  expect(await expire(one, time(30 * dayMs + 1))).toBe(await slotAt(one, time(dayMs), true));
  expect(await has(one, bad)).toBe(true);
  expect(await expire(one, time(30 * dayMs + 2))).toBe(await slotAt(one, time(1), false));
  expect(await has(one, bad)).toBe(false);
});

test("expire_history() empties one slot a call", async () => {
  const { one } = sessions;
  await emptied(one);
  await Promise.all([0, 1, 2].map((days) => ended(one, time(days * dayMs))));
  const slots = [];
  for (let count = 0; count < 4; count += 1) slots.push(await expire(one, time(20 * dayMs)));
  const expected = await Promise.all([0, 1, 2].map((days) => slotAt(one, time(days * dayMs), true)));
  expect(slots).toEqual([...expected.toSorted((a, b) => a - b), null]);
});

test("expire_history() goes by the settings", async () => {
  const { one } = sessions;
  await emptied(one);
  await one.rows("update orchestratum.setting set keep_succeeded = '2 hours', keep_other = '3 hours'");
  const good = await ended(one, time(0));
  const bad = await ended(one, time(0), "timed_out");
  expect(await expire(one, time(2 * hourMs))).toBeNull();
  await expire(one, time(2 * hourMs + 1));
  expect([await has(one, good), await has(one, bad)]).toEqual([false, true]);
  await expire(one, time(3 * hourMs + 1));
  expect(await has(one, bad)).toBe(false);
});

test("expire_history() leaves a slot alone that a reader holds, and goes on with the next", async () => {
  const { one, two, three } = sessions;
  await emptied(one);
  const times = [time(0), time(dayMs)];
  const slots = await Promise.all(times.map((at) => slotAt(one, at, true)));
  for (const at of times) await ended(one, at);
  const [first, second] = slots.toSorted((a, b) => a - b);
  await two.begin();
  await two.rows(`select count(*) from orchestratum.history_${first}`);
  expect(await expire(one, time(20 * dayMs))).toBe(second);
  expect(await expire(one, time(20 * dayMs))).toBeNull();
  // Nothing is left behind that a finish would have to wait for.
  await ended(three, time(0));
  await two.commit();
  expect(await expire(one, time(20 * dayMs))).toBe(first);
});

test("expire_history() locks first and looks then: what a finish commits meanwhile is kept", async () => {
  const { one, two, waitsForLock } = sessions;
  await emptied(one);
  // The ring comes to the same slot again after eight days.
  const old = await ended(one, time(hourMs));
  expect(await slotAt(one, time(8 * dayMs + hourMs), true)).toBe(await slotAt(one, time(hourMs), true));
  await two.begin();
  const fresh = await ended(two, time(8 * dayMs + hourMs));
  // Its lock timeout, but for this test, would leave the steps no time.
  await one.rows("alter function orchestratum.expire_history set lock_timeout = '10s'");
  const expired = expire(one, time(8 * dayMs + 2 * hourMs));
  await waitsForLock(one);
  await two.commit();
  const slot = await expired;
  await one.rows("alter function orchestratum.expire_history set lock_timeout = '50ms'");
  expect(slot).toBeNull();
  expect([await has(one, old), await has(one, fresh)]).toEqual([true, true]);
  expect(await expire(one, time(16 * dayMs))).toBe(await slotAt(one, time(hourMs), true));
});

test("expire_history() gives up after 50 ms where a finish is open", async () => {
  const { one, two } = sessions;
  await emptied(one);
  await ended(one, time(hourMs));
  await two.begin();
  await ended(two, time(8 * dayMs + hourMs));
  expect(await expire(one, time(8 * dayMs + 2 * hourMs))).toBeNull();
  const { timeout } = await one.row<{ timeout: boolean }>(
    `select 'lock_timeout=50ms' = any (proconfig) as timeout
    from pg_proc
    where oid = 'orchestratum.expire_history'::regproc`,
  );
  expect(timeout).toBe(true);
});

test("expire_history() empties nothing by a caller's clock that is in the future", async () => {
  const { one } = sessions;
  await emptied(one);
  const [lease] = await one.leaseNow(sessions.newQueue());
  await one.end("worker", { ...(lease ?? expect.fail()), verdict: "succeeded" });
  expect(await expire(one, "3000-01-01T00:00:00Z")).toBeNull();
  expect(await expire(one, "infinity")).toBeNull();
  expect(await has(one, lease?.id ?? "")).toBe(true);
});

test("expire_history() may be called by nobody but who was granted it", async () => {
  const { one } = sessions;
  await emptied(one);
  const id = await ended(one, time(0));
  const role = `orchestratum_test_${newId().replaceAll("-", "")}`;
  await one.rows(`create role ${role}`);
  try {
    await one.rows(`grant usage on schema orchestratum to ${role}`);
    await one.rows(`set role ${role}`);
    await expect(expire(one, time(20 * dayMs))).rejects.toMatchObject({ code: "42501" });
    await one.rows("reset role");
    expect(await has(one, id)).toBe(true);

    await one.rows(`grant execute on function orchestratum.expire_history to ${role}`);
    await one.rows(`set role ${role}`);
    // It has its owner's rights: the role itself may do nothing with the tables.
    await expect(one.rows("truncate orchestratum.history_0")).rejects.toMatchObject({ code: "42501" });
    expect(await expire(one, time(20 * dayMs))).toBe(await slotOfOwner(one, role));
  } finally {
    await one.rows("reset role");
    await one.rows(`drop owned by ${role}`);
    await one.rows(`drop role ${role}`);
  }
  expect(await has(one, id)).toBe(false);
});

/** history_slot() reads table setting, which the role may not. */
async function slotOfOwner(session: Session, role: string): Promise<number> {
  await session.rows("reset role");
  const slot = await slotAt(session, time(0), true);
  await session.rows(`set role ${role}`);
  return slot;
}

test("expire_history() trusts no search path of the caller's", async () => {
  const { one } = sessions;
  await emptied(one);
  const id = await ended(one, time(0));
  await one.begin();
  await one.rows("create schema trap");
  await one.rows(
    "create function trap.clock_timestamp() returns timestamptz language sql as $$ select '1970-01-01'::timestamptz $$",
  );
  await one.rows("set local search_path = trap, pg_catalog");
  expect(await expire(one, time(20 * dayMs))).not.toBeNull();
  expect(await has(one, id)).toBe(false);
});

test("overdue_history tells of a slot in use that still has what should be gone", async () => {
  const { one } = sessions;
  await emptied(one);
  expect(await one.rows(queries.overdueHistory)).toEqual([]);
  const [lease] = await one.leaseNow(sessions.newQueue());
  await one.end("worker", { ...(lease ?? expect.fail()), verdict: "succeeded" });
  expect(await one.rows(queries.overdueHistory)).toEqual([]);
  await one.rows("update orchestratum.history set finished_at = finished_at - interval '8 days'");
  const overdue = await one.rows<{ slot: number; oldest: string }>(queries.overdueHistory);
  // Where it has gone: an hour of slots may have begun meanwhile.
  const row = await one.row<{ slot: number }>("select h.slot from orchestratum.history h");
  expect(overdue).toMatchObject([row]);
  await one.rows("select orchestratum.expire_history()");
  expect(await one.rows(queries.overdueHistory)).toEqual([]);
});
