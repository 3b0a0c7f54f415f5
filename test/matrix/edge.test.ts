/** `orchestratum/workers` inside workerd. */
import { callEndpoint, createOrchestrator } from "orchestratum";
import { postgresJs } from "orchestratum/postgres-js";
import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import { createDatabase, type Database } from "../database.ts";
import { echo, hold, limitMs, resize, signingKey } from "./edge-contracts.ts";
import { startWorkerd, type Workerd } from "./miniflare.ts";

const token = "token-of-the-test-0123456789";
const headers = { Authorization: `Bearer ${token}`, "Content-Type": "application/json" };

let database: Database;
beforeAll(async () => {
  database = await createDatabase({ max: 4 });
  await database.sql`create table invocation (ms float8)`;
});
afterAll(() => database.drop());

const patiently = { timeout: 30_000, interval: 50 };

describe("edge() with a database", () => {
  let workerd: Workerd;
  beforeAll(async () => {
    workerd = await startWorkerd("test/matrix/edge-worker.ts", {
      bindings: { DATABASE_URL: database.url, TOKEN: token },
    });
  });
  afterAll(() => workerd.dispose());

  const connections = async (): Promise<number> => {
    const rows = await database.sql`
      select 1 from pg_stat_activity where datname = current_database() and application_name = 'edge'`;
    return rows.length;
  };
  const closed = () => vi.waitFor(async () => expect(await connections()).toBe(0), patiently);
  const ask = async (path: string, init: RequestInit = {}): Promise<Response> =>
    await fetch(new URL(path, await workerd.ready), { ...init, headers: { ...headers, ...init.headers } });
  const push = async (body: object): Promise<string> => {
    const answer = await ask("/commands", { method: "POST", body: JSON.stringify(body) });
    expect(answer.status).toBe(202);
    return ((await answer.json()) as { id: string }).id;
  };
  const tick = async () =>
    expect(await (await workerd.getWorker()).scheduled({ cron: "* * * * *" })).toMatchObject({ outcome: "ok" });

  test("serves the router by fetch, works off what is due by scheduled, and closes its connections after each", async () => {
    const id = await push({ name: "echo", input: "a" });
    await closed();
    expect((await ask("/commands")).status).toBe(200);
    expect((await ask("/commands", { headers: { Authorization: "Bearer nobody" } })).status).toBe(401);
    await closed();
    await tick();
    await closed();
    expect(await (await ask(`/commands/${id}/output`)).json()).toBe("a");
    await closed();
  });

  test("keeps its connections while a stream goes on, and closes them when it ends or its client leaves", async () => {
    const orchestrator = createOrchestrator({ database: postgresJs(database.sql) });
    const id = await push({ name: "echo", input: "b", delayMs: 600_000 });
    await closed();
    const leaving = new AbortController();
    const left = await ask(`/commands/${id}/stream`, { signal: leaving.signal });
    await left.body?.getReader().read();
    expect(await connections()).toBeGreaterThan(0);
    leaving.abort();
    await closed();

    const stream = await ask(`/commands/${id}/stream`);
    const text = stream.text();
    await vi.waitFor(async () => expect(await connections()).toBeGreaterThan(0), patiently);
    await orchestrator.cancel(id as never);
    expect(await text).toContain('"cancelled"');
    await closed();
    await orchestrator.stop();
  });

  test("ends a tick before the platform's limit, and hands back what ran", async () => {
    const id = await push({ name: "hold" });
    await tick();
    const [longest] = await database.sql<{ ms: number }[]>`select max(ms) as ms from invocation`;
    expect(longest?.ms).toBeLessThan(limitMs);
    // It was given its time, and that was measured.
    expect(longest?.ms).toBeGreaterThan(limitMs / 2);
    await closed();
    const orchestrator = createOrchestrator({ database: postgresJs(database.sql), commands: [hold] });
    expect(await orchestrator.get(id as never)).toMatchObject({ status: "pending", attempt: 0, fence: 1 });
    await orchestrator.cancel(id as never);
    await orchestrator.stop();
  });
});

test("a worker elsewhere has its commands executed in workerd by signed calls, without a database there", async () => {
  await using workerd = await startWorkerd("test/matrix/calls-worker.ts");
  const url = (await workerd.ready).href;
  const call = callEndpoint({ url, keys: signingKey, fetch: (to, init) => fetch(to, init), allowHttp: true });
  const orchestrator = createOrchestrator({
    database: postgresJs(database.sql),
    handlers: [resize.handle(call), echo.handle(({ input }) => input)],
  });
  orchestrator.startWorker();
  const { id } = await orchestrator.push(resize("a.png"));
  expect(await orchestrator.waitFor(id)).toMatchObject({
    status: "succeeded",
    output: "a.png by Cloudflare-Workers",
  });
  const [followUp] = (await orchestrator.list({ name: "echo", parentId: id })).commands;
  expect(followUp).toMatchObject({ parentId: id });
  expect(await orchestrator.waitFor(followUp?.id as never)).toMatchObject({ output: "a.png is resized" });

  const unsigned = await fetch(url, { method: "POST", headers: { "Content-Type": "application/json" }, body: "{}" });
  expect(unsigned.status).toBe(401);
  await orchestrator.stop();
});

test("edgeObject() listens: what is pushed elsewhere starts at once, and its alarm keeps it", async () => {
  await database.sql`create table alarm (at timestamptz default clock_timestamp())`;
  await using workerd = await startWorkerd("test/matrix/object-worker.ts", {
    bindings: { DATABASE_URL: database.url },
    durableObjects: { WORKER: "Worker" },
  });
  const orchestrator = createOrchestrator({ database: postgresJs(database.sql), commands: [echo] });
  // Ticks are entered there, too, of other tests among them.
  const workers = () => database.sql<{ id: string }[]>`
    select id from orchestratum.worker where stopped_at is null and runtime = 'Cloudflare-Workers' and id like 'worker-%'`;
  expect((await workerd.dispatchFetch("http://workerd/")).status).toBe(204);
  await vi.waitFor(async () => expect(await workers()).toHaveLength(1), patiently);
  const [first] = await workers();
  // It looks by itself once in a minute, or less.
  const once = await orchestrator.push(echo("once"));
  expect(await orchestrator.waitFor(once.id, { timeoutMs: 30_000 })).toMatchObject({ status: "succeeded" });

  // Nobody asks it for longer than the ten seconds after which an object is put away.
  const alarms = async () => (await database.sql`select 1 from alarm`).length;
  await vi.waitFor(async () => expect(await alarms()).toBeGreaterThanOrEqual(3), patiently);
  const again = await orchestrator.push(echo("again"));
  expect(await orchestrator.waitFor(again.id, { timeoutMs: 30_000 })).toMatchObject({
    status: "succeeded",
    output: "again",
  });
  expect(await workers()).toEqual([first]);
  await orchestrator.stop();
}, 90_000);
