/** A reader's lease and checkpoint as SQL, from sessions that are stepped against each other. */
import { beforeEach, expect, test } from "vitest";
import { queries } from "../../src/sql.generated.ts";
import { type Session, useSessions } from "./session.ts";

const sessions = useSessions();

interface Taken {
  readonly generation: number;
  readonly building: boolean;
  readonly position: string;
  readonly taken: boolean;
  readonly fence: number | null;
  readonly free_in_ms: number;
}

const register = (session: Session, from: number | null = 0) =>
  session.rows(queries.registerReader, ["r", from === null ? null : String(from)]);

const take = (session: Session, worker = "w1", leaseMs = 60_000, running: number[] = []) =>
  session.rows<Taken>(queries.takeReader, [worker, "r", leaseMs, JSON.stringify(running)]);

const hold = async (
  session: Session,
  fence: number,
  position: number,
  { worker = "w1", generation = 1, recorded = 0 } = {},
) =>
  (
    await session.row<{ result: string }>(queries.holdReader, [
      ...["r", generation, worker, fence, 60_000, String(position), String(recorded)],
    ])
  ).result;

const checkpoint = async (session: Session, fence: number, position: number, { worker = "w1", generation = 1 } = {}) =>
  (await session.row<{ accepted: boolean }>(queries.checkpoint, ["r", generation, worker, fence, String(position)]))
    .accepted;

const release = async (
  session: Session,
  fence: number,
  { worker = "w1", error = null as string | null, delayMs = 0 } = {},
) => (await session.rows(queries.releaseReader, ["r", 1, worker, fence, delayMs, error, "0"])).length === 1;

const switchTo = async (session: Session, generation: number, fence: number, worker = "w1") =>
  (await session.row<{ result: string }>(queries.switchReader, ["r", generation, worker, fence])).result;

const state = (generation = 1) =>
  sessions.one.row<{ position: number; leased_by: string | null; failures: number; last_error: string | null }>(
    `select position::int as position, leased_by, failures, last_error
    from orchestratum.reader
    where generation = $1::int`,
    [generation],
  );

/** As if every lease, and every delay, had gone by. */
const expire = () =>
  sessions.one.rows("update orchestratum.reader set available_at = clock_timestamp() - interval '1 ms'");

beforeEach(async () => {
  await sessions.one.rows("truncate orchestratum.reader");
  await sessions.one.rows("update orchestratum.event_head set position = 100");
});

test("register_reader makes a reader known once, from a position or the newest", async () => {
  const { one } = sessions;
  await register(one, 7);
  await register(one, null);
  expect(await take(one)).toMatchObject([{ generation: 1, building: false, position: "7", taken: true, fence: 1 }]);
  await one.rows("truncate orchestratum.reader");
  await register(one, null);
  expect((await state()).position).toBe(100);
});

test("take_reader leases a reader to one process at a time, and tells the others when it may be free", async () => {
  const { one, two } = sessions;
  expect(await take(one)).toEqual([]);
  await register(one);
  await one.begin();
  expect(await take(one)).toMatchObject([{ taken: true, fence: 1 }]);
  // Nobody waits for a lock.
  expect(await take(two, "w2")).toMatchObject([{ taken: false }]);
  await one.commit();
  const [other] = await take(two, "w2");
  expect(other).toMatchObject({ taken: false, fence: null });
  expect(other?.free_in_ms).toBeGreaterThan(50_000);
  await expire();
  expect(await take(two, "w2")).toMatchObject([{ taken: true, fence: 2 }]);
  await expire();
  expect(await take(two, "w2", 60_000, [1])).toMatchObject([{ taken: false }]);
});

test("a checkpoint is recorded under the lease's own fence, and no other", async () => {
  const { one } = sessions;
  await register(one);
  await take(one);
  expect(await checkpoint(one, 1, 5)).toBe(true);
  expect(await hold(one, 1, 6)).toBe("held");
  await expire();
  // The lease is over, and nobody has taken the reader.
  expect(await checkpoint(one, 1, 7)).toBe(false);
  expect(await hold(one, 1, 7)).toBe("lost");
  // The same process has it again: what it began under the first lease does not count.
  await take(one);
  expect(await checkpoint(one, 1, 7)).toBe(false);
  expect(await hold(one, 1, 7)).toBe("lost");
  expect(await release(one, 1)).toBe(false);
  expect(await switchTo(one, 1, 1)).toBe("lost");
  expect(await checkpoint(one, 2, 7, { worker: "w2" })).toBe(false);
  expect(await hold(one, 2, 7, { worker: "w2" })).toBe("lost");
  expect(await checkpoint(one, 2, 7, { generation: 2 })).toBe(false);
  expect(await state()).toMatchObject({ position: 6, leased_by: "w1" });
  expect(await checkpoint(one, 2, 7)).toBe(true);
  // It never goes back.
  expect([await checkpoint(one, 2, 3), await hold(one, 2, 3)]).toEqual([true, "held"]);
  expect(await state()).toMatchObject({ position: 7 });
});

test("a heartbeat does not wait for the transaction of a checkpoint, and hears when that was rolled back", async () => {
  const { one, two } = sessions;
  await register(one);
  await take(one);
  await two.begin();
  expect(await checkpoint(two, 1, 5)).toBe(true);
  expect(await hold(one, 1, 0)).toBe("busy");
  expect(await release(one, 1)).toBe(false);
  await two.rollback();
  expect(await hold(one, 1, 5, { recorded: 5 })).toBe("rolled_back");
  expect(await state()).toMatchObject({ position: 0 });
  expect(await hold(one, 1, 5)).toBe("held");
  expect(await hold(one, 1, 5, { recorded: 5 })).toBe("held");
});

test("a checkpoint waits for a heartbeat, and is refused where that took the lease away", async () => {
  const { one, two, waitsForLock } = sessions;
  await register(one);
  await take(one);
  await two.begin();
  await two.rows("update orchestratum.reader set fence = fence + 1");
  const late = checkpoint(one, 1, 5);
  await waitsForLock(one);
  await two.commit();
  expect(await late).toBe(false);
});

test("the transaction of a checkpoint ends with the lease, and must be READ COMMITTED", async () => {
  const { one } = sessions;
  await register(one);
  await take(one, "w1", 60_000);
  const timeout = async (): Promise<number> =>
    (
      await one.row<{ ms: number }>(
        "select setting::int as ms from pg_settings where name = 'idle_in_transaction_session_timeout'",
      )
    ).ms;
  await one.begin();
  await checkpoint(one, 1, 5);
  expect(await timeout()).toBeGreaterThan(0);
  expect(await timeout()).toBeLessThanOrEqual(60_000);
  await one.commit();
  expect(await timeout()).toBe(0);
  await one.begin();
  await one.rows("set local idle_in_transaction_session_timeout = 500");
  await checkpoint(one, 1, 6);
  expect(await timeout()).toBe(500);
  await one.rollback();
  await one.rows("begin isolation level repeatable read");
  await expect(checkpoint(one, 1, 6)).rejects.toMatchObject({ code: "25000" });
});

test("release_reader frees a reader at once, or after an error when that is due; progress forgets the error", async () => {
  const { one } = sessions;
  await register(one);
  await take(one);
  expect(await release(one, 1)).toBe(true);
  expect(await take(one, "w2")).toMatchObject([{ taken: true, fence: 2 }]);
  expect(await release(one, 2, { worker: "w2", error: "It broke", delayMs: 60_000 })).toBe(true);
  expect(await state()).toMatchObject({ leased_by: null, failures: 1, last_error: "It broke" });
  expect(await take(one)).toMatchObject([{ taken: false }]);
  await expire();
  await take(one);
  expect(await hold(one, 3, 0)).toBe("held");
  expect(await state()).toMatchObject({ failures: 1 });
  expect(await hold(one, 3, 1)).toBe("held");
  expect(await state()).toMatchObject({ failures: 0, last_error: null });
});

test("switch_reader puts a rebuild in use when it has come as far, and holds the other one still until then", async () => {
  const { one, two } = sessions;
  await register(one, 10);
  await take(one);
  await one.rows(queries.rebuildReader, ["r", "0"]);
  const building = (await take(one, "w2")).find(({ generation }) => generation === 2);
  expect(building).toMatchObject({ building: true, position: "0", taken: true, fence: 1 });
  const asBuilder = { worker: "w2", generation: 2 };
  expect(await hold(one, 1, 5, asBuilder)).toBe("held");
  expect(await switchTo(one, 2, 1, "w2")).toBe("behind");
  // The one in use records nothing more, and nobody may take it for a while.
  expect(await checkpoint(one, 1, 11)).toBe(false);
  expect((await take(one)).map(({ taken }) => taken)).toEqual([false, false]);
  expect(await hold(one, 1, 10, asBuilder)).toBe("held");
  expect(await switchTo(one, 2, 2, "w2")).toBe("lost");
  expect(await switchTo(one, 2, 1, "w3")).toBe("lost");
  await two.begin();
  await two.rows("select from orchestratum.reader r where r.generation = 1 for update");
  expect(await switchTo(one, 2, 1, "w2")).toBe("busy");
  await two.rollback();
  expect(await switchTo(one, 2, 1, "w2")).toBe("switched");
  const rows = await one.rows("select generation, building from orchestratum.reader");
  expect(rows).toEqual([{ generation: 2, building: false }]);
  expect(await checkpoint(one, 1, 12, asBuilder)).toBe(true);
  // The reply was lost, and it asks again.
  expect(await switchTo(one, 2, 1, "w2")).toBe("switched");
  expect(await switchTo(one, 2, 2, "w2")).toBe("lost");
  await expire();
  expect(await switchTo(one, 2, 1, "w2")).toBe("lost");
});

test("rebuild_reader begins one rebuild at a time, and none of a reader that there is not", async () => {
  const { one } = sessions;
  const rebuild = (): Promise<unknown[]> => one.rows(queries.rebuildReader, ["r", "0"]);
  expect(await rebuild()).toEqual([]);
  await register(one);
  expect(await rebuild()).toEqual([{ generation: 2, begun: true }]);
  expect(await rebuild()).toEqual([{ generation: 2, begun: false }]);
  // Its table has what the one that was given up wrote: the next one gets another number.
  expect(await one.rows(queries.cancelRebuild, ["r"])).toEqual([{ changed: true }]);
  expect(await rebuild()).toEqual([{ generation: 3, begun: true }]);
  await take(one, "w2");
  expect(await switchTo(one, 3, 1, "w2")).toBe("switched");
  expect(await rebuild()).toEqual([{ generation: 4, begun: true }]);
  expect(await one.rows(queries.cancelRebuild, ["r"])).toEqual([{ changed: true }]);
  expect(await rebuild()).toEqual([{ generation: 5, begun: true }]);
});

test("a rebuild that waits for another one begins none, and finds it when it asks again", async () => {
  const { one, two, waitsForLock } = sessions;
  await register(one);
  await one.begin();
  await one.rows(queries.rebuildReader, ["r", "0"]);
  const late = two.rows(queries.rebuildReader, ["r", "0"]);
  await waitsForLock(two);
  await one.commit();
  expect(await late).toEqual([]);
  expect(await two.rows(queries.rebuildReader, ["r", "0"])).toEqual([{ generation: 2, begun: false }]);
});

test("a reader that is paused is paused after a switch", async () => {
  const { one } = sessions;
  await register(one);
  await one.rows(queries.pauseReader, ["r", true]);
  await one.rows(queries.rebuildReader, ["r", "0"]);
  await take(one, "w2");
  expect(await switchTo(one, 2, 1, "w2")).toBe("switched");
  expect(await one.rows("select from orchestratum.reader r where r.paused_at is not null")).toHaveLength(1);
});

test("a heartbeat that meets a checkpoint which commits at that moment does not take it for one rolled back", async () => {
  const { one, two, three, waitsForLock } = sessions;
  await register(one);
  await take(one);
  // Its own statement, that stands still after it has begun to look.
  const query = queries.holdReader.replace(
    "select clock_timestamp() as at",
    "select clock_timestamp() as at from pg_advisory_lock(4711)",
  );
  await three.rows("select pg_advisory_lock(4711)");
  const held = two.row<{ result: string }>(query, ["r", 1, "w1", 1, 60_000, "5", "5"]);
  await waitsForLock(two);
  expect(await checkpoint(one, 1, 5)).toBe(true);
  await three.rows("select pg_advisory_unlock(4711)");
  expect(await held).toMatchObject({ result: "busy" });
  await two.rows("select pg_advisory_unlock(4711)");
  expect(await hold(two, 1, 5, { recorded: 5 })).toBe("held");
});
