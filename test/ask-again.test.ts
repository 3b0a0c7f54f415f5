/** What somebody else has locked, which takes a server with several sessions. */
import { afterAll, beforeAll, expect, test } from "vitest";
import { postgresJs } from "../adapters/postgres-js.ts";
import { createOrchestrator, defineCommand, type Orchestrator } from "../src/index.ts";
import { createDatabase, type Database } from "./database.ts";

let database: Database;
let orchestrator: Orchestrator;
const job = defineCommand({ name: "job", queue: "nobody" });

beforeAll(async () => {
  database = await createDatabase();
  orchestrator = createOrchestrator({ database: postgresJs(database.sql), commands: [job] });
});
afterAll(async () => {
  await orchestrator.stop();
  await database.drop();
});

/** Does it while somebody has the row locked: for 300 ms, or until it is done. */
async function whileLocked<T>(id: string, work: () => Promise<T>, ms?: number): Promise<T> {
  let working: Promise<T> | undefined;
  await database.sql.begin(async (tx) => {
    const live = await tx`select from orchestratum.command where id = ${id} for update`;
    const past = await tx`select from orchestratum.history where id = ${id} for update`;
    expect(live.length + past.length).toBe(1);
    working = work();
    if (ms === undefined) await working;
    else await new Promise((resolve) => setTimeout(resolve, ms));
  });
  return await (working as Promise<T>);
}

const push = async (count: number): Promise<string[]> =>
  (await orchestrator.push(Array.from({ length: count }, () => job()))).map(({ id }) => id);

test("what somebody has locked for a moment is asked for again", async () => {
  const { cancel, retry, erase, reprioritise } = orchestrator;
  const [id = ""] = await push(1);
  expect(await whileLocked(id, () => reprioritise(id, 1), 300)).toBe("changed");
  expect(await whileLocked(id, () => cancel(id), 300)).toBe("cancelled");
  expect(await whileLocked(id, () => retry(id), 300)).toBe("retried");
  expect(await whileLocked(id, () => cancel({ status: "pending" }), 300)).toEqual({ count: 1, busy: 0 });
  expect(await whileLocked(id, () => erase(id), 300)).toBe("erased");
});

test("what stays locked is busy after five seconds, and holds up none of the others", async () => {
  const { cancel, retry, get } = orchestrator;
  const ids = await push(3);
  const [, held = ""] = ids;
  const filter = { queue: "nobody" };
  expect(await whileLocked(held, () => cancel(filter))).toEqual({ count: 2, busy: 1 });
  expect(await cancel(held)).toBe("cancelled");
  const from = new Date(Date.now() - 60_000);
  const given = { ...filter, status: "cancelled", from } as const;
  expect(await whileLocked(held, () => retry(given))).toEqual({ count: 2, busy: 1 });
  expect(await Promise.all(ids.map(async (id) => (await get(id))?.status))).toEqual([
    "pending",
    "cancelled",
    "pending",
  ]);
}, 30_000);
