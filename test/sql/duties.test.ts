import { beforeEach, expect, test } from "vitest";
import { queries } from "../../src/sql.generated.ts";
import { type Session, useSessions } from "./session.ts";

const sessions = useSessions();

interface Taken {
  name: string;
  taken: boolean;
  fence: number | null;
  due_in_ms: number;
}

const register = (session: Session, names: readonly string[]) =>
  session.rows(queries.registerDuties, [JSON.stringify(names)]);

const take = async (session: Session, worker: string, names: readonly string[], leaseMs = 60_000): Promise<Taken[]> =>
  (await session.rows<Taken>(queries.takeDuty, [worker, JSON.stringify(names), leaseMs])).toSorted((a, b) =>
    a.name < b.name ? -1 : 1,
  );

const finish = async (
  session: Session,
  worker: string,
  fence: number,
  { name = "retention", nextRunMs = 1_000, durationMs = 12.5, error = null as string | null } = {},
): Promise<boolean> =>
  (await session.rows(queries.finishDuty, [worker, name, fence, nextRunMs, durationMs, error])).length === 1;

const duty = (name = "retention") =>
  sessions.one.row<Record<string, unknown>>(
    `select
      leased_by, fence, last_worker, last_error, last_duration_ms, lease_ends_at is not null as leased,
      (extract(epoch from next_run_at - clock_timestamp()) * 1000)::float8 as due_in_ms,
      last_started_at <= last_finished_at as ended
    from orchestratum.duty
    where name = $1::text`,
    [name],
  );

/** As if the lease, or the time to the next run, had gone by. */
const expire = (column: "lease_ends_at" | "next_run_at") =>
  sessions.one.rows(`update orchestratum.duty set ${column} = clock_timestamp() - interval '1 ms'`);

beforeEach(async () => {
  await sessions.one.rows("truncate orchestratum.duty");
  await register(sessions.one, ["retention"]);
});

test("register_duties makes duties known that are due at once, and leaves those alone that are", async () => {
  const { one } = sessions;
  await take(one, "w1", ["retention"]);
  const before = await duty();
  await register(one, ["retention", "rescan a", "rescan a"]);
  expect(await duty()).toMatchObject({ leased_by: before.leased_by, fence: before.fence });
  expect(await take(one, "w1", ["rescan a"])).toMatchObject([{ name: "rescan a", taken: true, fence: 1 }]);
});

test("take_duty leases a duty to one worker at a time", async () => {
  const { one, two } = sessions;
  expect(await take(one, "w1", ["retention"])).toMatchObject([{ name: "retention", taken: true, fence: 1 }]);
  const [other] = await take(two, "w2", ["retention"]);
  expect(other).toMatchObject({ taken: false, fence: null });
  expect(other?.due_in_ms).toBeGreaterThan(50_000);
  expect(other?.due_in_ms).toBeLessThanOrEqual(60_000);
  expect(await duty()).toMatchObject({ leased_by: "w1", fence: 1, leased: true });
});

test("take_duty does not wait for another worker that takes it at this moment", async () => {
  const { one, two } = sessions;
  await one.begin();
  expect(await take(one, "w1", ["retention"])).toMatchObject([{ taken: true }]);
  expect(await take(two, "w2", ["retention"])).toMatchObject([{ taken: false }]);
  await one.rollback();
  expect(await take(two, "w2", ["retention"])).toMatchObject([{ taken: true, fence: 1 }]);
});

test("take_duty takes one at a time, the one that has been due for longest, and none that was not asked for", async () => {
  const { one } = sessions;
  await register(one, ["rescan a", "rescan b"]);
  await one.rows("update orchestratum.duty set next_run_at = next_run_at - interval '1 s' where name = 'rescan a'");
  await one.rows("update orchestratum.duty set next_run_at = next_run_at - interval '1 min' where name = 'rescan b'");
  const taken = async (): Promise<string[]> =>
    (await take(one, "w1", ["retention", "rescan a", "unknown"])).filter((row) => row.taken).map(({ name }) => name);
  expect(await taken()).toEqual(["rescan a"]);
  expect(await taken()).toEqual(["retention"]);
  expect(await taken()).toEqual([]);
  expect(await duty("rescan b")).toMatchObject({ leased_by: null });
});

test("take_duty takes a duty over when its lease has expired, and the late holder is told", async () => {
  const { one } = sessions;
  await take(one, "w1", ["retention"]);
  await expire("lease_ends_at");
  expect(await take(one, "w2", ["retention"])).toMatchObject([{ taken: true, fence: 2 }]);
  expect(await finish(one, "w1", 1)).toBe(false);
  expect(await finish(one, "w1", 2)).toBe(false);
  expect(await finish(one, "w2", 1)).toBe(false);
  expect(await duty()).toMatchObject({ leased_by: "w2", fence: 2, last_worker: null });
  expect(await finish(one, "w2", 2)).toBe(true);
});

test("take_duty tells a worker apart from itself: a lease of its own that expired is another one", async () => {
  const { one } = sessions;
  await take(one, "w1", ["retention"]);
  await expire("lease_ends_at");
  await take(one, "w1", ["retention"]);
  expect(await finish(one, "w1", 1)).toBe(false);
  expect(await finish(one, "w1", 2)).toBe(true);
});

test("finish_duty records the run, and when the next one is due", async () => {
  const { one } = sessions;
  await take(one, "w1", ["retention"]);
  expect(await finish(one, "w1", 1, { nextRunMs: 60_000 })).toBe(true);
  const recorded = await duty();
  expect(recorded).toMatchObject({
    leased_by: null,
    leased: false,
    fence: 1,
    last_worker: "w1",
    last_error: null,
    last_duration_ms: 12.5,
    ended: true,
  });
  expect(recorded.due_in_ms).toBeGreaterThan(50_000);
  expect(await finish(one, "w1", 1)).toBe(false);

  const [next] = await take(one, "w2", ["retention"]);
  expect(next).toMatchObject({ taken: false });
  expect(next?.due_in_ms).toBeGreaterThan(50_000);
  await expire("next_run_at");
  expect(await take(one, "w2", ["retention"])).toMatchObject([{ taken: true, fence: 2 }]);
});

test("finish_duty records what went wrong, until a run goes well", async () => {
  const { one } = sessions;
  await take(one, "w1", ["retention"]);
  await finish(one, "w1", 1, { nextRunMs: 0, error: "It broke" });
  expect(await duty()).toMatchObject({ last_error: "It broke" });
  await expire("next_run_at");
  await take(one, "w2", ["retention"]);
  expect(await duty()).toMatchObject({ last_error: "It broke", leased_by: "w2" });
  await finish(one, "w2", 2);
  expect(await duty()).toMatchObject({ last_error: null, last_worker: "w2" });
});

test("who wants a duty not to run puts it far off, beside which the others are done; no end of time would stop them on PostgreSQL 16", async () => {
  const { one } = sessions;
  await register(one, ["rescan a"]);
  const putOff = (until: string) =>
    one.rows(`update orchestratum.duty set next_run_at = '${until}' where name = 'retention'`);
  await expect(putOff("infinity")).rejects.toMatchObject({ code: "23514" });
  await putOff("9999-12-31");
  expect(await take(one, "w1", ["retention", "rescan a"])).toMatchObject([
    { name: "rescan a", taken: true },
    { name: "retention", taken: false },
  ]);
});
