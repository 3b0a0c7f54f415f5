/**
 * The log as SQL: positions are given after the commit, in the order of each stream, whoever appends and places at once.
 * Sessions are stepped against each other where an order by anything but commits would go wrong.
 */
import { expect, test } from "vitest";
import { queries } from "../../src/sql.generated.ts";
import { createDatabase } from "../database.ts";
import { newId, Session, useSessions } from "./session.ts";

const sessions = useSessions();

interface Placed {
  readonly position: number;
  readonly stream: string | null;
  readonly version: number | null;
}

const event = (id = newId()) => ({ id, topic: "test.events.happened", data: { a: 1 } });

/** Appends to a stream, whatever its version; answers the new one, undefined for a conflict. */
async function append(session: Session, stream: string | null, count = 1, expected: number | null = null) {
  const [row] = await session.rows<{ version: number }>(
    "select version from orchestratum.append($1::text, $2::int, $3::text::json) where version is not null",
    [stream, expected, JSON.stringify(Array.from({ length: count }, () => event()))],
  );
  return row?.version;
}

const place = async (session: Session, maxCount = 1_000): Promise<number> =>
  (await session.row<{ placed: number }>("select placed from orchestratum.sequence_events($1::int)", [maxCount]))
    .placed;

async function read(session: Session, after = 0, maxCount = 1_000): Promise<Placed[]> {
  const rows = await session.rows<{ event_position: string; stream: string | null; version: number | null }>(
    `select event_position, stream, version
    from orchestratum.read_log($1::text::bigint, $2::int)
    where id is not null`,
    [String(after), maxCount],
  );
  return rows.map(({ event_position, stream, version }) => ({ position: Number(event_position), stream, version }));
}

/** Every event once, positions without a gap, and each stream in its order. */
function expectOrdered(log: readonly Placed[], first = 1): void {
  expect(log.map(({ position }) => position)).toEqual(log.map((_, index) => first + index));
  const versions = new Map<string, number>();
  for (const { stream, version } of log) {
    if (stream === null) continue;
    expect(version).toBe((versions.get(stream) ?? 0) + 1);
    versions.set(stream, version as number);
  }
}

async function emptied(session: Session): Promise<void> {
  await session.rows(`
    truncate orchestratum.event, orchestratum.event_inbox, orchestratum.event_position, orchestratum.stream, orchestratum.reader`);
  await session.rows("update orchestratum.event_head set position = 0");
  await session.rows("update orchestratum.setting set keep_events = null");
}

test("sequence_events() gives what is committed its positions, in order and once", async () => {
  const { one } = sessions;
  await emptied(one);
  expect(await place(one)).toBe(0);
  await append(one, "a", 2);
  await append(one, null);
  await append(one, "a");
  expect(await read(one)).toEqual([]);
  expect(await place(one, 3)).toBe(3);
  expect(await place(one, 3)).toBe(1);
  expect(await place(one, 3)).toBe(0);
  expect(await read(one)).toEqual([
    { position: 1, stream: "a", version: 1 },
    { position: 2, stream: "a", version: 2 },
    { position: 3, stream: null, version: null },
    { position: 4, stream: "a", version: 3 },
  ]);
  expect(await read(one, 2, 1)).toEqual([{ position: 3, stream: null, version: null }]);
});

test("transactions that wrote before they appended follow their streams, with a third open between them", async () => {
  const { one, two, three } = sessions;
  await emptied(one);
  await one.rows("create table if not exists scratch (n int)");
  // The first transaction has its id before the second, and appends after it.
  await one.begin();
  await one.rows("insert into scratch values (1)");
  await three.begin();
  await three.rows("insert into scratch values (3)");
  await two.begin();
  await two.rows("insert into scratch values (2)");
  expect(await append(two, "order", 1, 0)).toBe(1);
  await append(three, "other");
  await two.commit();
  expect(await append(one, "order", 1, 1)).toBe(2);
  await one.commit();
  await place(one);
  expect(await read(one)).toEqual([
    { position: 1, stream: "order", version: 1 },
    { position: 2, stream: "order", version: 2 },
  ]);
  // Whoever has read these two finds the third after them.
  await three.commit();
  await place(one);
  expect(await read(one, 2)).toEqual([{ position: 3, stream: "other", version: 1 }]);
});

test("an event of an open transaction is not placed, and one that was rolled back never is", async () => {
  const { one, two } = sessions;
  await emptied(one);
  await two.begin();
  await append(two, "open");
  await append(one, "done");
  expect(await place(one)).toBe(1);
  await two.rollback();
  expect(await place(one)).toBe(0);
  await append(one, "open");
  expect(await place(one)).toBe(1);
  expectOrdered(await read(one));
});

test("sequence_events() tells who must look again: another one is placing, or has placed", async () => {
  const { one, two } = sessions;
  await emptied(one);
  const look = (session: Session) => session.row(queries.sequenceEvents, [1_000]);
  expect(await look(one)).toEqual({ placed: 0, head: "0", busy: false });
  await append(one, null, 3);
  await one.begin();
  expect(await look(one)).toEqual({ placed: 3, head: "3", busy: false });
  expect(await look(two)).toEqual({ placed: 0, head: "0", busy: true });
  await one.commit();
  expect(await look(two)).toEqual({ placed: 0, head: "3", busy: false });
});

test("sequence_events() does not wait for another one that is under way, and takes over what it leaves", async () => {
  const { one, two } = sessions;
  await emptied(one);
  await append(one, "a", 3);
  await two.begin();
  expect(await place(two)).toBe(3);
  expect(await place(one)).toBe(0);
  await two.rollback();
  expect(await place(one)).toBe(3);
  expectOrdered(await read(one));
});

test("five writers, two sequencers and a reader: nothing is missed, and no stream is out of order", async () => {
  await using database = await createDatabase({ max: 1 });
  const open = await Promise.all(Array.from({ length: 8 }, () => Session.open(database)));
  const [reader, sequencer, other, ...writers] = open as [Session, Session, Session, ...Session[]];
  let committed = 0;
  let writing = true;
  const write = async (writer: Session, number: number): Promise<void> => {
    for (let turn = 0; turn < 60; turn++) {
      await writer.begin();
      // Some have their transaction's id long before they append.
      if (turn % 3 === 0) await writer.rows("select pg_current_xact_id()");
      const streams = [`stream ${(number + turn) % 3}`, `stream ${3 + (turn % 2)}`];
      for (const stream of streams) await append(writer, stream, 1 + (turn % 3));
      if (turn % 4 === 0) await append(writer, null);
      if (turn % 5 === 0) {
        await writer.rollback();
      } else {
        await writer.commit();
        committed += 2 * (1 + (turn % 3)) + (turn % 4 === 0 ? 1 : 0);
      }
    }
  };
  const sequence = async (session: Session): Promise<void> => {
    while (writing) await place(session, 3);
  };
  const log: Placed[] = [];
  const follow = async (): Promise<void> => {
    for (let last = false; ; ) {
      const found = await read(reader, log.at(-1)?.position ?? 0, 7);
      log.push(...found);
      if (found.length > 0) continue;
      if (last) return;
      last = !writing && (await place(reader)) === 0;
    }
  };
  try {
    const done = Promise.all(writers.map(write)).finally(() => {
      writing = false;
    });
    await Promise.all([done, sequence(sequencer), sequence(other), follow()]);
    expect(log).toHaveLength(committed);
    expectOrdered(log);
  } finally {
    await Promise.all(open.map((session) => session[Symbol.asyncDispose]()));
  }
});

test("read_log() reads past topics that were not asked for, and says how far", async () => {
  const { one } = sessions;
  await emptied(one);
  await append(one, null, 5);
  await one.rows("select version from orchestratum.append(null, null, $1::text::json)", [
    JSON.stringify([{ id: newId(), topic: "rare.event", data: 1 }]),
  ]);
  await append(one, null, 4);
  await place(one);
  const log = async (after: number, maxCount: number, maxScanned: number) => {
    const rows = await one.rows<{ id: string | null; event_position: string | null; topic: string; more: boolean }>(
      "select id, event_position, topic, more from orchestratum.read_log($1::text::bigint, $2::int, $3::text, $4::int)",
      [String(after), maxCount, "^rare\\.event$", maxScanned],
    );
    const end = rows.at(-1);
    return [rows.slice(0, -1).map((row) => Number(row.event_position)), Number(end?.event_position), end?.more];
  };
  expect(await log(0, 10, 100)).toEqual([[6], 10, false]);
  expect(await log(0, 10, 4)).toEqual([[], 4, true]);
  expect(await log(4, 10, 4)).toEqual([[6], 8, true]);
  expect(await log(0, 1, 100)).toEqual([[6], 6, true]);
  expect(await log(10, 10, 100)).toEqual([[], 0, false]);
});

test("read_log() and read_stream() stop at their limit of bytes, and an event larger than that comes alone", async () => {
  const { one } = sessions;
  await emptied(one);
  const data = "x".repeat(98);
  for (let count = 0; count < 5; count++) {
    await one.rows("select version from orchestratum.append('s', null, $1::text::json)", [
      JSON.stringify([{ id: newId(), topic: "t", data }]),
    ]);
  }
  await place(one);
  // The last row says whether there is more, and where no pattern was asked for, no more than that.
  for (const pattern of [null, "^t$"]) {
    const log = async (maxBytes: number, maxCount = 4) =>
      (
        await one.rows<{ event_position: string; more: boolean | null }>(
          "select event_position, more from orchestratum.read_log(0, $1::int, $2::text, 100, $3::int)",
          [maxCount, pattern, maxBytes],
        )
      ).map(({ event_position, more }) => (more === null ? event_position : [event_position, more]));
    const end = (position: string, more: boolean) => [pattern === null ? null : position, more];
    expect(await log(1)).toEqual(["1", end("1", true)]);
    expect(await log(200)).toEqual(["1", "2", end("2", true)]);
    expect(await log(100_000)).toEqual(["1", "2", "3", "4", end("4", true)]);
    expect(await log(100_000, 5)).toEqual(["1", "2", "3", "4", "5", end("5", true)]);
    expect(await log(100_000, 6)).toEqual(["1", "2", "3", "4", "5", end("5", false)]);
  }
  const stream = async (backwards: boolean, maxBytes: number) =>
    (
      await one.rows<{ version: number; cut: boolean }>(
        "select version, cut from orchestratum.read_stream('s', null, $1::boolean, 4, $2::int)",
        [backwards, maxBytes],
      )
    ).map(({ version, cut }) => [version, cut]);
  expect(await stream(false, 1)).toEqual([[1, true]]);
  expect(await stream(true, 200)).toEqual([
    [5, true],
    [4, true],
  ]);
  expect(await stream(true, 100_000)).toEqual([5, 4, 3, 2].map((version) => [version, false]));
});

test("append() meets its expected version or appends nothing, and leaves the transaction usable", async () => {
  const { one, two } = sessions;
  await emptied(one);
  expect(await append(one, "s", 2, 0)).toBe(2);
  await one.begin();
  expect(await append(one, "s", 1, 1)).toBe(undefined);
  expect(await append(one, "s", 1, 0)).toBe(undefined);
  expect(await append(one, "new", 1, 3)).toBe(undefined);
  expect(await append(one, "new", 1, -1)).toBe(undefined);
  expect(await append(one, "s", 1, 2)).toBe(3);
  await one.commit();
  // Of two that expect one version the second one waits for the first, and finds it taken.
  await one.begin();
  expect(await append(one, "s", 1, 3)).toBe(4);
  const late = append(two, "s", 1, 3);
  await sessions.waitsForLock(two);
  await one.commit();
  expect(await late).toBe(undefined);
  await place(one);
  expectOrdered(await read(one));
});

test("append_again() answers what the first append left, also where that is still open", async () => {
  const { one, two } = sessions;
  await emptied(one);
  const events = JSON.stringify([event(), event()]);
  const again = async (session: Session, name: "append" | "append_again", expected: number | null) =>
    (
      await session.rows<{ version: number }>(
        `select version from orchestratum.${name}('s', $1::int, $2::text::json) where version is not null`,
        [expected, events],
      )
    ).map(({ version }) => version);
  await one.begin();
  expect(await again(one, "append", 0)).toEqual([2]);
  const repeated = again(two, "append_again", 0);
  await sessions.waitsForLock(two);
  await one.commit();
  expect(await repeated).toEqual([2]);
  await append(one, "s", 1, 2);
  expect(await again(two, "append_again", 0)).toEqual([2]);
  expect(await again(two, "append_again", null)).toEqual([2]);
  await place(one);
  expect(await read(one)).toHaveLength(3);
});

// Retention.

const dayMs = 24 * 60 * 60 * 1000;

/** Of a ring of sixteen days, today is that of day 4: what is appended now is in the slot of none of the days before. */
const firstDay = (Math.floor(Date.now() / dayMs) - 64 - 4) * dayMs;
/** So many days later, and an hour: at no border of a slot. */
const day = (days: number, ms = 0): string => new Date(firstDay + days * dayMs + 60 * 60 * 1000 + ms).toISOString();

/** Appended as if at a time, and placed. */
async function appendedAt(session: Session, at: string, stream = "s"): Promise<void> {
  await session.rows("select version from orchestratum.append($1::text, null, $2::text::json, $3::text::timestamptz)", [
    stream,
    JSON.stringify([event()]),
    at,
  ]);
}

const expire = async (session: Session, at: string): Promise<number | null> =>
  (await session.row<{ slot: number | null }>("select orchestratum.expire_events($1::text::timestamptz) as slot", [at]))
    .slot;

const slotAt = async (session: Session, at: string): Promise<number> =>
  (await session.row<{ slot: number }>("select orchestratum.event_slot($1::text::timestamptz) as slot", [at])).slot;

test("event_slot() is 0 without a retention, and turns through sixteen slots with one", async () => {
  const { one } = sessions;
  await emptied(one);
  expect(await slotAt(one, day(0))).toBe(0);
  await one.rows("update orchestratum.setting set keep_events = '14 days'");
  const slots = [];
  for (let days = 0; days < 17; days++) slots.push(await slotAt(one, day(days)));
  expect(new Set(slots)).toEqual(new Set(Array.from({ length: 16 }, (_, index) => index + 1)));
  expect(slots[16]).toBe(slots[0]);
  await expect(one.rows("update orchestratum.setting set keep_events = '59 minutes'")).rejects.toMatchObject({
    code: "23514",
  });
});

test("expire_events() empties what is past its retention, slot by slot; positions and versions stay what they were", async () => {
  const { one } = sessions;
  await emptied(one);
  await appendedAt(one, day(0));
  await one.rows("update orchestratum.setting set keep_events = '14 days'");
  for (const days of [1, 2, 3]) await appendedAt(one, day(days));
  await place(one);
  expect(await expire(one, day(15))).toBeNull();
  expect(await expire(one, day(15, 1))).toBe(await slotAt(one, day(1)));
  expect(await expire(one, day(15, 1))).toBeNull();
  // The first one was appended when everything was kept for ever.
  expect(await read(one)).toEqual([
    { position: 1, stream: "s", version: 1 },
    { position: 3, stream: "s", version: 3 },
    { position: 4, stream: "s", version: 4 },
  ]);
  expect(await read(one, 2)).toHaveLength(2);
  expect(await append(one, "s", 1, 4)).toBe(5);
  await place(one);
  expect((await read(one)).at(-1)).toEqual({ position: 5, stream: "s", version: 5 });
  const slots = [await expire(one, day(40)), await expire(one, day(40))];
  expect(slots.toSorted()).toEqual([await slotAt(one, day(2)), await slotAt(one, day(3))].toSorted());
  // What was appended just now is kept whatever the caller's clock says.
  expect(await expire(one, "infinity")).toBeNull();
  await one.rows("update orchestratum.setting set keep_events = null");
  expect(await expire(one, "infinity")).toBeNull();
});

test("expire_events() keeps what a reader has not dealt with, and what has no position", async () => {
  const { one } = sessions;
  await emptied(one);
  await one.rows("update orchestratum.setting set keep_events = '14 days'");
  await appendedAt(one, day(0));
  expect(await expire(one, day(30))).toBeNull();
  await place(one);
  await one.rows(`
    insert into orchestratum.reader (name, generation, building, position, available_at, created_at)
    values ('slow', 1, false, 0, now(), now()), ('quick', 1, false, 1, now(), now())`);
  expect(await expire(one, day(30))).toBeNull();
  await one.rows("update orchestratum.reader set position = 1");
  expect(await expire(one, day(30))).toBe(await slotAt(one, day(0)));
  expect(await read(one)).toEqual([]);
});

test("expire_events() leaves a slot alone that somebody holds, and looks again when it has the lock", async () => {
  const { one, two, three } = sessions;
  await emptied(one);
  await one.rows("update orchestratum.setting set keep_events = '14 days'");
  await appendedAt(one, day(0));
  await appendedAt(one, day(1));
  await place(one);
  const [first, second] = [await slotAt(one, day(0)), await slotAt(one, day(1))];
  await two.begin();
  await two.rows(`select count(*) from orchestratum.event_${first}`);
  expect(await expire(one, day(30))).toBe(second);
  expect(await expire(one, day(30))).toBeNull();
  await two.commit();
  // An append that is open when the slot is looked at.
  await two.begin();
  await appendedAt(two, day(16));
  await one.rows("alter function orchestratum.expire_events set lock_timeout = '10s'");
  const expired = expire(one, day(17));
  await sessions.waitsForLock(one);
  await two.commit();
  expect(await expired).toBeNull();
  await one.rows("alter function orchestratum.expire_events set lock_timeout = '50ms'");
  await place(three);
  expect(await read(one)).toHaveLength(2);
});

test("expire_events() may be called by nobody but who was granted it", async () => {
  const { one } = sessions;
  const role = `orchestratum_test_${newId().replaceAll("-", "")}`;
  await one.rows(`create role ${role}`);
  try {
    await one.rows(`grant usage on schema orchestratum to ${role}`);
    await one.rows(`set role ${role}`);
    await expect(expire(one, day(0))).rejects.toMatchObject({ code: "42501" });
  } finally {
    await one.rows("reset role");
    await one.rows(`drop owned by ${role}`);
    await one.rows(`drop role ${role}`);
  }
});
