/** What adding a subscription with a past must wait for: transactions of others, so on a server with several sessions. */
import { afterAll, beforeAll, expect, test } from "vitest";
import { postgresJs } from "../adapters/postgres-js.ts";
import { createOrchestrator, defineEvent, OpenPublishersError, type Orchestrator, subscribe } from "../src/index.ts";
import { createDatabase, type Database } from "./database.ts";

let database: Database;
let orchestrator: Orchestrator;

beforeAll(async () => {
  database = await createDatabase();
  orchestrator = createOrchestrator({ database: postgresJs(database.sql) });
});
afterAll(async () => {
  await orchestrator.stop();
  await database.drop();
});

const delivered = async (id: string): Promise<string[]> =>
  (await orchestrator.eventStatus(id))?.deliveries.map(({ subscription }) => subscription) ?? [];

test("addSubscription() with a position waits for who had published without it, and delivers that, too", async () => {
  const happened = defineEvent({ topic: "waits.happened" });
  const handler = subscribe({ name: "waits", to: happened, handler: () => {} });
  let adding: Promise<unknown> = Promise.resolve();
  let isAdded = false;
  const { id, looked } = await database.sql.begin(async (tx) => {
    const published = await orchestrator.publish(happened(), { db: postgresJs(tx) });
    adding = orchestrator.addSubscription(handler, { from: 0 }).then(() => {
      isAdded = true;
    });
    // It is stored at once, so that what comes now is delivered live.
    await expect.poll(async () => (await orchestrator.subscriptions()).some(({ name }) => name === "waits")).toBe(true);
    const live = await orchestrator.publish(happened());
    return { id: published.id, looked: [isAdded, await delivered(live.id)] };
  });
  expect(looked).toEqual([false, ["waits"]]);
  await adding;
  expect(await delivered(id)).toEqual(["waits"]);
});

test("addSubscription() gives up on a transaction that stays open, and can be repeated", async () => {
  const happened = defineEvent({ topic: "gives_up.happened" });
  const handler = subscribe({ name: "gives_up", to: happened, handler: () => {} });
  const { id, pid } = await database.sql.begin(async (tx) => {
    const published = await orchestrator.publish(happened(), { db: postgresJs(tx) });
    const [row] = await tx<{ pid: number }[]>`select pg_backend_pid() as pid`;
    const error = await orchestrator
      .addSubscription(handler, { from: 0, waitMs: 50 })
      .catch((refused: unknown) => refused);
    expect(error).toBeInstanceOf(OpenPublishersError);
    expect((error as OpenPublishersError).pids).toEqual([row?.pid]);
    return { id: published.id, pid: row?.pid };
  });
  expect(pid).toBeGreaterThan(0);
  expect(await delivered(id)).toEqual([]);
  await orchestrator.addSubscription(handler, { from: 0 });
  expect(await delivered(id)).toEqual(["gives_up"]);
});

test("addSubscription() from now waits for nobody", async () => {
  const happened = defineEvent({ topic: "now.happened" });
  const handler = subscribe({ name: "now", to: happened, handler: () => {} });
  const id = await database.sql.begin(async (tx) => {
    const published = await orchestrator.publish(happened(), { db: postgresJs(tx) });
    expect(await orchestrator.addSubscription(handler)).toEqual({ position: undefined });
    return published.id;
  });
  expect(await delivered(id)).toEqual([]);
});
