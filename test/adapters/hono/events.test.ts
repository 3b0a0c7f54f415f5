/** Events, dead letters, subscriptions, ticks and signed calls over HTTP. */

import { Webhook } from "standardwebhooks";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { createSite, openSite, type Site, signingKey } from "./site.ts";

const unknownId = "01999f3e-7c1b-7000-8000-3f2a9f0e6d11";

let site: Awaited<ReturnType<typeof openSite>>;
const ask: Site["ask"] = (route, options) => site.ask(route, options);

beforeAll(async () => {
  site = await openSite();
  await site.orchestrator.startWorker({ queues: ["default"] }).started;
});
afterAll(() => site[Symbol.asyncDispose]());

const placed = (order: string, total: number) => ({ topic: "orders.events.placed", data: { order, total } });

describe("POST /events", () => {
  test("publishes, and what became of an event is where its id is", async () => {
    const { status, json } = await ask("POST /events", { body: { events: [placed("o1", 5)] } });
    expect([status, json.ids.length]).toEqual([202, 1]);
    await expect
      .poll(async () => (await ask(`GET /events/${json.ids[0]}`)).json.status, { timeout: 20_000 })
      .toBe("handled");
    const { event, deliveries } = (await ask(`GET /events/${json.ids[0]}`)).json;
    expect(event.metadata.actor).toEqual({ id: "everything", type: "token" });
    expect(deliveries).toMatchObject([{ subscription: "billing", status: "succeeded" }]);
    expect((await ask(`GET /events/${unknownId}`)).status).toBe(404);
  });

  test("appends to a stream at its version, and says where it is otherwise", async () => {
    const body = { stream: "order/1 ü", events: [placed("o1", 1), placed("o1", 2)], expectedVersion: 0 };
    const { status, json } = await ask("POST /events", { body });
    expect([status, json.version, json.ids.length]).toEqual([202, 2, 2]);
    const conflict = await ask("POST /events", { body });
    expect([conflict.status, conflict.json.currentVersion]).toEqual([409, 2]);
    const path = `/streams/${encodeURIComponent("order/1 ü")}`;
    const forwards = (await ask(`GET ${path}`)).json.events;
    expect(forwards.map(({ version, data }: any) => [version, data.total])).toEqual([
      [1, 1],
      [2, 2],
    ]);
    const last = (await ask(`GET ${path}?direction=backwards&limit=1`)).json.events;
    expect(last.map(({ version }: any) => version)).toEqual([2]);
    expect((await ask("GET /streams/none")).json).toEqual({ events: [] });
  });

  test("refuses what is no event, with the places and without what was sent", async () => {
    const bodies: [object, string[]][] = [
      [{ events: [placed("o1", 1), { topic: "nobody.knows" }] }, ["events[1].topic"]],
      [
        { events: [{ topic: "orders.events.placed", data: { order: "secret-order", total: "secret-total" } }] },
        ["events[0].data.total"],
      ],
      [{ events: [] }, ["events"]],
      [{ events: [placed("o1", 1)], expectedVersion: 1 }, [""]],
      [{ events: [{ topic: "notes.noted", metadata: { actor: { id: "a", type: "b" } } }] }, ["events[0].metadata"]],
    ];
    for (const [body, paths] of bodies) {
      const { status, json, text } = await ask("POST /events", { body });
      expect([status, json.issues.map(({ path }: any) => path)]).toEqual([422, paths]);
      expect(text).not.toContain("secret");
    }
  });

  test("a repeat with its Idempotency-Key doubles nothing", async () => {
    const headers = { "Idempotency-Key": "events-1" };
    const body = { events: [{ topic: "notes.noted", data: 1 }] };
    const first = await ask("POST /events", { body, headers });
    expect((await ask("POST /events", { body, headers })).json).toEqual(first.json);
    const other = { events: [{ topic: "notes.noted", data: 2 }] };
    expect((await ask("POST /events", { body: other, headers })).status).toBe(422);
    // The same key for a command is another place.
    expect((await ask("POST /commands", { body: { name: "wait" }, headers })).status).toBe(202);
  });
});

test("GET /events reads the log page by page, by patterns of topics", async () => {
  await ask("POST /events", {
    body: { events: Array.from({ length: 5 }, (_, data) => ({ topic: "notes.noted", data })) },
  });
  const seen: string[] = [];
  let after = 0;
  for (let more = true; more; ) {
    const { json } = await ask(`GET /events?after=${after}&limit=2&topic=notes.*&topic=other.%23`);
    seen.push(...json.events.map(({ topic }: any) => topic));
    ({ position: after, more } = json);
  }
  expect(seen.length).toBeGreaterThanOrEqual(5);
  expect(new Set(seen)).toEqual(new Set(["notes.noted"]));
  for (const query of ["limit=201", "after=-1", "after=x", "topic=a..b", "topic=%23.a", "colour=red"]) {
    expect((await ask(`GET /events?${query}`)).status, query).toBe(400);
  }
});

describe("dead letters", () => {
  test("are listed, retried and dropped", async () => {
    await ask("POST /events", { body: { events: [placed("bad", -1), placed("bad", -2)] } });
    const list = async () => (await ask("GET /dead-letters?subscription=billing&status=failed")).json.commands;
    await expect.poll(async () => (await list()).length, { timeout: 20_000 }).toBe(2);
    const [{ id }] = await list();
    const one = (await ask(`GET /dead-letters/${id}`)).json;
    expect(one.trail.at(-1).message).toBe("less than nothing");
    expect((await ask(`GET /dead-letters/${unknownId}`)).status).toBe(404);

    const filter = { subscription: "billing" };
    const dry = await ask("POST /dead-letters/retry", { body: { filter, dryRun: true } });
    expect(dry.json).toEqual({ count: 2, busy: 0, dryRun: true });
    expect((await ask("POST /dead-letters/retry", { body: { filter, perSecond: 1_000 } })).json.count).toBe(2);
    await expect.poll(async () => (await list()).length, { timeout: 20_000 }).toBe(2);
    expect((await ask("POST /dead-letters/drop", { body: { filter } })).json).toEqual({
      count: 2,
      busy: 0,
      dryRun: false,
    });
    expect(await list()).toEqual([]);
    for (const act of ["retry", "drop"]) {
      expect((await ask(`POST /dead-letters/${act}`, { body: { filter: {} } })).status).toBe(422);
      expect(
        (await ask(`POST /dead-letters/${act}`, { body: { filter: { subscription: "a", name: "b" } } })).status,
      ).toBe(422);
    }
  });
});

test("subscriptions are listed, and end", async () => {
  const list = async () => (await ask("GET /subscriptions")).json.subscriptions;
  expect(await list()).toMatchObject([{ name: "billing", patterns: ["orders.events.placed"] }]);
  expect((await ask("POST /subscriptions/billing/remove", { body: {} })).status).toBe(422);
  const removed = await ask("POST /subscriptions/billing/remove", { body: { deliveries: "cancel" } });
  expect(removed.json).toMatchObject({ removed: true });
  expect((await list())[0].removedAt).toBeDefined();
  expect((await ask("POST /subscriptions/nobody/remove", { body: { deliveries: "keep" } })).json.removed).toBe(false);
});

test("a delivery cannot be pushed as a command, and is not described as one", async () => {
  const { status } = await ask("POST /commands", { body: { name: "deliver:billing", input: {} } });
  expect(status).toBe(422);
  expect((await ask("GET /openapi.json")).text).not.toContain("deliver:billing");
});

test("POST /tick works off what is due, and says when to come back", async () => {
  await using other = createSite(site.driver);
  const { json } = await other.ask("POST /commands", { body: { name: "add", input: { a: 1 }, queue: "ticked" } });
  await other.ask("POST /commands", { body: { name: "tidy", queue: "ticked", delayMs: 3_600_000 } });
  const tick = await other.ask("POST /tick", { body: { queues: ["ticked"], maxMs: 10_000 } });
  expect(tick.status).toBe(200);
  expect(tick.json.more).toBe(false);
  expect(tick.json.comeBackInMs).toBeGreaterThan(3_000_000);
  expect((await other.ask(`GET /commands/${json.id}/output`)).json).toEqual({ sum: 2 });
  for (const body of [{ maxMs: 1 }, { maxMs: 300_001 }, { queues: [] }, { colour: "red" }]) {
    expect((await other.ask("POST /tick", { body })).status).toBe(422);
  }
});

describe("POST /execute", () => {
  const call = (change: object = {}) => ({
    id: unknownId,
    url: "http://jobs.test/execute",
    name: "tidy",
    version: 1,
    fence: 1,
    attempt: 1,
    queue: "default",
    metadata: {},
    timeoutMs: 5_000,
    ...change,
  });
  const signed = (body: string, { id = `${unknownId}.1`, at = new Date(), key = signingKey } = {}) => ({
    "webhook-id": id,
    "webhook-timestamp": String(Math.floor(at.getTime() / 1_000)),
    "webhook-signature": new Webhook(key).sign(id, at, body),
  });

  test("executes a call that is signed, and answers a repeat as the first time", async () => {
    const body = JSON.stringify(call());
    const headers = signed(body);
    const first = await ask("POST /execute", { body, headers, scope: null });
    expect([first.status, first.json?.status], first.text).toEqual([200, "succeeded"]);
    expect((await ask("POST /execute", { body, headers, scope: null })).json).toEqual(first.json);
  });

  test("refuses a signature that is missing, wrong, early, late, truncated or of another body or address", async () => {
    const body = JSON.stringify(call({ fence: 2 }));
    const good = signed(body, { id: `${unknownId}.2` });
    const hour = 3_600_000;
    const bad: [Record<string, string>, string][] = [
      [{}, body],
      [{ ...good, "webhook-signature": good["webhook-signature"].slice(0, -4) }, body],
      [{ ...good, "webhook-signature": "" }, body],
      [signed(body, { id: `${unknownId}.2`, at: new Date(Date.now() - hour) }), body],
      [signed(body, { id: `${unknownId}.2`, at: new Date(Date.now() + hour) }), body],
      [signed(body, { id: `${unknownId}.2`, key: `whsec_${btoa("another key, another key, another")}` }), body],
      [good, `${body} `],
      [good, JSON.stringify(call({ fence: 2, name: "add" }))],
    ];
    for (const [headers, text] of bad) {
      expect((await ask("POST /execute", { body: text, headers, scope: "everything" })).status).toBe(401);
    }
    const elsewhere = JSON.stringify(call({ fence: 3, url: "http://evil.test/execute" }));
    expect(
      (await ask("POST /execute", { body: elsewhere, headers: signed(elsewhere, { id: `${unknownId}.3` }) })).status,
    ).toBe(421);
  });

  test("is not there where nothing receives", async () => {
    await using other = createSite(site.driver, { receive: undefined });
    expect((await other.ask("POST /execute", { body: {} })).status).toBe(404);
  });
});
