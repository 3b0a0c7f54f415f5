import { expect, test } from "vitest";
import { newId, time, useSessions } from "./session.ts";

const sessions = useSessions();

const nothing = { name: null, version: null, status: null, output: null, trail: null, finished_at: null };

test("wait_for() marks a command, and its finish tells that somebody waits", async () => {
  const { one, newQueue } = sessions;
  const lease = await one.leaseOne(newQueue(), { name: "a", version: 3 });
  const { id } = lease;
  expect(await one.waitFor([id])).toEqual([{ ...nothing, id, result: "waiting", name: "a", version: 3 }]);
  expect((await one.finish("worker", [{ id, fence: 1, verdict: "succeeded" }])).awaited).toEqual([id]);
});

test("wait_for() marks a command once, and writes nothing when it is asked again", async () => {
  const { one, newQueue } = sessions;
  const [pushed] = await one.push([{ queue: newQueue() }]);
  const id = pushed?.id ?? "";
  const version = () =>
    one.row("select ctid::text, xmin::text from orchestratum.command where id = $1::text::uuid", [id]);
  const before = await version();
  expect(await one.waitFor([id, id])).toMatchObject([{ result: "waiting" }]);
  const marked = await version();
  expect(marked).not.toEqual(before);
  expect(await one.waitFor([id])).toMatchObject([{ result: "waiting" }]);
  expect(await version()).toEqual(marked);
});

test("wait_for() keeps the mark through attempts", async () => {
  const { one, newQueue } = sessions;
  const queue = newQueue();
  const lease = await one.leaseOne(queue);
  await one.waitFor([lease.id]);
  await one.end("worker", { ...lease, verdict: "retry" }, { at: time(1) });
  const [next] = (await one.claim(queue, { at: time(1) })).commands;
  const { awaited } = await one.finish("worker", [{ ...(next ?? expect.fail()), verdict: "failed" }]);
  expect(awaited).toEqual([lease.id]);
});

test("wait_for() answers how a command ended", async () => {
  const { one, newQueue } = sessions;
  const [good, bad] = await one.lease(newQueue(), [
    { name: "a", version: 2 },
    { name: "b", version: 7 },
  ]);
  if (good === undefined || bad === undefined) expect.fail();
  await one.finish(
    "worker",
    [
      { id: good.id, fence: 1, verdict: "succeeded", output: { a: 1 } },
      { id: bad.id, fence: 1, verdict: "failed", error: { message: "It broke" } },
    ],
    { at: time(5, 1) },
  );
  expect(await one.waitFor([good.id])).toEqual([
    {
      id: good.id,
      result: "finished",
      name: "a",
      version: 2,
      status: "succeeded",
      output: '{"a":1}',
      trail: null,
      finished_at: time(5, 1),
    },
  ]);
  const [failed] = await one.waitFor([bad.id]);
  expect(failed).toMatchObject({ result: "finished", name: "b", version: 7, status: "failed", output: null });
  expect(JSON.parse(failed?.trail ?? "")).toMatchObject([{ message: "It broke", fence: 1 }]);
});

test("wait_for() says unknown of what is not there", async () => {
  const { one } = sessions;
  const id = newId();
  expect(await one.waitFor([id])).toEqual([{ ...nothing, id, result: "unknown" }]);
  expect(await one.waitFor([])).toEqual([]);
});

test("wait_for() does not wait for a row that somebody has locked: it is busy, and the others are marked", async () => {
  const { one, two, newQueue } = sessions;
  const queue = newQueue();
  const pushed = await one.push([{ queue }, { queue }, { queue, awaited: true }]);
  const ids = pushed.map(({ id }) => id);
  await two.lock(ids[0] ?? "", ids[2] ?? "");
  const ask = async () => {
    const rows = await one.waitFor(ids);
    return ids.map((id) => rows.find((row) => row.id === id)?.result);
  };
  // What was marked before needs no lock.
  expect(await ask()).toEqual(["busy", "waiting", "waiting"]);
  await two.rollback();
  expect(await ask()).toEqual(["waiting", "waiting", "waiting"]);
});

test("wait_for() that has the row first is seen by the finish", async () => {
  const { one, two, newQueue } = sessions;
  const { id } = await one.leaseOne(newQueue());
  await one.begin();
  expect(await one.waitFor([id])).toMatchObject([{ result: "waiting" }]);
  const outcome = { id, fence: 1, verdict: "succeeded" };
  expect(await two.end("worker", outcome)).toBe("busy");
  await one.commit();
  expect((await two.finish("worker", [outcome])).awaited).toEqual([id]);
});

test("wait_for() that comes after the finish sees history, as soon as that commits", async () => {
  const { one, two, newQueue } = sessions;
  const { id } = await one.leaseOne(newQueue());
  await two.begin();
  expect((await two.finish("worker", [{ id, fence: 1, verdict: "succeeded" }])).awaited).toEqual([]);
  expect(await one.waitFor([id])).toMatchObject([{ result: "busy" }]);
  await two.commit();
  expect(await one.waitFor([id])).toMatchObject([{ result: "finished", status: "succeeded" }]);
});

test("wait_for() marks a command whose finish was undone", async () => {
  const { one, two, newQueue } = sessions;
  const { id } = await one.leaseOne(newQueue());
  await two.begin();
  await two.end("worker", { id, fence: 1, verdict: "succeeded" });
  expect(await one.waitFor([id])).toMatchObject([{ result: "busy" }]);
  await two.rollback();
  expect(await one.waitFor([id])).toMatchObject([{ result: "waiting" }]);
});
