import { expect, test } from "vitest";
import { queries } from "../../src/sql.generated.ts";
import { newId, registerHandler, type Session, useSessions } from "./session.ts";

const sessions = useSessions();

async function erase(session: Session, ids: readonly string[]): Promise<Map<string, string>> {
  const rows = await session.rows<{ id: string; result: string }>(queries.erase, [JSON.stringify(ids), null]);
  return new Map(rows.map(({ id, result }) => [id, result]));
}

test("erase() takes the data and leaves the fact, also in a trail that quotes it", async () => {
  const { one, newQueue } = sessions;
  const queue = newQueue();
  const metadata = { actor: { id: "lovelace", type: "user" }, source: "shop" };
  const [lease] = await one.leaseNow(queue, [{ input: { who: "lovelace" }, metadata }]);
  if (!lease) expect.fail();
  await one.end("worker", {
    ...lease,
    verdict: "retry",
    error: { code: "E1", message: "lovelace", stack: "lovelace", details: ["lovelace"] },
  });
  const [again] = (await one.claim(queue)).commands;
  if (!again) expect.fail();
  await one.end("worker", { ...again, verdict: "succeeded", output: { who: "lovelace" } });
  const before = await one.look(lease.id);
  expect(await erase(one, [lease.id])).toEqual(new Map([[lease.id, "erased"]]));
  const after = await one.look(lease.id);
  expect(JSON.stringify(after)).not.toContain("lovelace");
  expect(after).toEqual({
    ...before,
    input: null,
    output: null,
    metadata: '{"source": "shop"}',
    trail: expect.any(String),
  });
  expect(await one.trail(lease.id)).toMatchObject([
    { code: "E1", message: "(erased)", fence: 1, attempt: 1, worker: "worker" },
  ]);
});

test("erase() leaves alone what waits, runs, or has a hook that does, and is busy with what is locked", async () => {
  const { one, two, newQueue } = sessions;
  const queue = newQueue();
  await registerHandler(one, { name: queue, hooks: ["failure"] });
  const [running, failed] = await one.leaseNow(queue, [{ input: 1 }, { name: queue, input: { who: "lovelace" } }]);
  const [waiting] = await one.push([{ queue, input: 2, delay_ms: 60_000 }]);
  if (!running || !failed || !waiting) expect.fail();
  await one.end("worker", { ...failed, verdict: "failed", error: { message: "lovelace" } });
  const none = newId();
  expect(await erase(one, [running.id, failed.id, waiting.id, none])).toEqual(
    new Map([
      [running.id, "running"],
      [failed.id, "waiting"],
      [waiting.id, "waiting"],
      [none, "unknown"],
    ]),
  );
  expect(await one.look(running.id)).toMatchObject({ input: "1" });
  expect(await one.look(waiting.id)).toMatchObject({ input: "2" });
  const [hook] = (await one.claim(queue)).commands;
  if (!hook) expect.fail();
  expect(hook.parent_id).toBe(failed.id);
  expect((await erase(one, [failed.id])).get(failed.id)).toBe("running");
  expect((await one.look(hook.id)).input).toContain("lovelace");
  await one.end("worker", { ...hook, verdict: "succeeded" });
  await two.begin();
  await two.rows("select from orchestratum.history where id = $1::text::uuid for update", [hook.id]);
  expect((await erase(one, [failed.id])).get(failed.id)).toBe("busy");
  await two.rollback();
  expect((await erase(one, [failed.id])).get(failed.id)).toBe("erased");
  expect((await one.look(hook.id)).input).toBeNull();
});

test("erase() takes the deliveries of what a command and its hooks published, and their hooks, and no more", async () => {
  const { one, two, newQueue } = sessions;
  const queue = newQueue();
  const told = { who: "lovelace" };
  /** A command that waits, and one that has ended. */
  const push = async (command: object) => {
    const [pushed] = await one.push([{ queue, input: told, metadata: { actor: told }, ...command }]);
    return (pushed ?? expect.fail()).id;
  };
  const end = async (id: string, verdict = "failed") => {
    const lease = (await one.claim(queue)).commands.find((claimed) => claimed.id === id) ?? expect.fail();
    expect(await one.end("worker", { ...lease, verdict, error: { code: "E1", message: "lovelace" } })).toBe("accepted");
  };
  const root = await push({});
  await end(root);
  const hook = await push({ hook: "failure", parent_id: root });
  await end(hook);
  const published = await push({ name: "deliver:mail", parent_id: root });
  const erased = async () => (await erase(one, [root])).get(root);
  expect(await erased()).toBe("waiting");
  const lease = (await one.claim(queue)).commands[0] ?? expect.fail();
  expect(await erased()).toBe("running");
  expect((await one.look(published)).input).toContain("lovelace");
  await one.end("worker", { ...lease, verdict: "failed", error: { code: "E1", message: "lovelace" } });

  const byHook = await push({ name: "deliver:mail", parent_id: hook });
  await end(byHook);
  const last = await push({ name: "deliver:mail", hook: "failure", parent_id: published });
  expect(await erased()).toBe("waiting");
  await end(last);
  const others: string[] = [];
  for (const command of [{ name: "deliver:mail", parent_id: last }, { parent_id: root }]) {
    others.push(await push(command));
    await end(others.at(-1) ?? "");
  }
  others.push(await push({ name: "deliver:mail", parent_id: published, delay_ms: 60_000 }));

  const late = await push({ name: "deliver:late", parent_id: root });
  await end(late);
  await two.begin();
  await two.rows("select from orchestratum.history where id = $1::text::uuid for update", [late]);
  expect(await erased()).toBe("busy");
  await two.rollback();
  expect(await erased()).toBe("erased");
  for (const id of [root, hook, published, byHook, last, late]) {
    expect(await one.look(id)).toMatchObject({ input: null, metadata: null, status: "failed" });
    expect(await one.trail(id)).toMatchObject([{ code: "E1", message: "(erased)" }]);
  }
  for (const id of others) expect((await one.look(id)).input).toContain("lovelace");
  // Asked of a delivery, it means that one.
  expect((await erase(one, [published])).get(published)).toBe("waiting");
  expect(await erased()).toBe("erased");
});

test("erase() gives up metadata that it cannot read, and keeps no batch from going on", async () => {
  const { one, newQueue } = sessions;
  const leases = await one.leaseNow(newQueue(), [{ input: 1 }, { input: 2 }]);
  const [odd, plain] = leases.map(({ id }) => id);
  if (!odd || !plain) expect.fail();
  for (const lease of leases) await one.end("worker", { ...lease, verdict: "succeeded" });
  await one.rows(`update orchestratum.history set metadata = '{"a": "\\u0000"}' where id = $1::text::uuid`, [odd]);
  expect([...(await erase(one, [odd, plain])).values()]).toEqual(["erased", "erased"]);
  expect((await one.look(odd)).metadata).toBeNull();
});
