/** Every success that the description tells of is answered once, and is as it says; what is not asked for here fails. */
import { Webhook } from "standardwebhooks";
import { afterAll, beforeAll, expect, test } from "vitest";
import { createOrchestrator } from "../../../src/index.ts";
import { type Answered, answered, openSite, requireDescribed, type Site, signingKey, wait } from "./site.ts";

let site: Awaited<ReturnType<typeof openSite>>;
const ask: Site["ask"] = (route, options) => site.ask(route, options);

beforeAll(async () => {
  site = await openSite({ tickKeys: signingKey });
  await site.orchestrator.startWorker({ queues: ["default"] }).started;
});
afterAll(() => site[Symbol.asyncDispose]());

async function ended(body: object): Promise<string> {
  const { id } = (await ask("POST /commands", { body })).json;
  await site.orchestrator.waitFor(id, { timeoutMs: 20_000 });
  return id;
}

/** Takes the beginning of a stream that has no end. */
async function followed(route: string, headers: Record<string, string>): Promise<void> {
  const { body, status, headers: given } = await site.app.request(site.request(route, { headers }));
  const reader = (body as ReadableStream<Uint8Array>).getReader();
  const text = new TextDecoder().decode((await reader.read()).value);
  await reader.cancel();
  const answer: Answered = { status, headers: given, text, json: undefined };
  const description = (await ask("GET /openapi.json")).json;
  requireDescribed(description, route, answer, given.get("content-type") as string);
}

test("every success that is described is answered as it is described", async () => {
  const description = (await ask("GET /openapi.json")).json;

  const waiting = (await ask("POST /commands", { body: { name: "wait" } })).json.id;
  const added = await ended({ name: "add", input: { a: 1 } });
  const tidied = await ended({ name: "tidy" });
  const failed = await ended({ name: "shout" });
  await ask("POST /commands/batch", { body: [{ name: "wait", queue: "bulk" }] });
  const ndjson = { "Content-Type": "application/x-ndjson" };
  await ask("POST /commands/batch", { body: '{"name":"wait"}\n{', headers: ndjson });

  const { headers } = await ask(`GET /commands/${added}`);
  await ask(`GET /commands/${added}`, {
    headers: { "If-None-Match": headers.get("etag") as string, Prefer: "wait=1" },
  });
  for (const id of [waiting, added]) await ask(`GET /commands/${id}?redirect=true`);
  for (const id of [waiting, added, tidied]) await ask(`GET /commands/${id}/output`, { headers: { Prefer: "wait=1" } });
  for (const part of ["timeline", "tree", "explain"]) await ask(`GET /commands/${added}/${part}`);

  const { text } = await ask(`GET /commands/${added}/stream`);
  const [, lastId = ""] = /^id: (.*)$/m.exec(text) ?? [];
  expect((await ask(`GET /commands/${added}/stream`, { headers: { "Last-Event-ID": lastId } })).status).toBe(204);
  await followed("GET /stream", {});
  await followed("GET /events", { Accept: "text/event-stream" });

  await ask(`POST /commands/${waiting}/cancel`);
  await ask(`POST /commands/${waiting}/retry`);
  await ask(`POST /commands/${failed}/erase`);
  await site.orchestrator.pauseQueue("default");
  await site.orchestrator.resumeQueue("default");
  const filter = { queue: "bulk", from: new Date(Date.now() - 60_000).toISOString() };
  for (const act of ["cancel", "retry"]) await ask(`POST /commands/${act}`, { body: { filter, dryRun: true } });
  await ask("GET /commands");

  const placed = { topic: "orders.events.placed", data: { order: "o1", total: -1 } };
  const { ids } = (await ask("POST /events", { body: { stream: "order-1", events: [placed] } })).json;
  await ask(`GET /events/${ids[0]}`);
  await ask("GET /events");
  await ask("GET /streams/order-1");
  await ask("GET /subscriptions");
  const dead = async () => (await ask("GET /dead-letters?subscription=billing")).json.commands;
  await expect.poll(async () => (await dead()).length, { timeout: 20_000 }).toBe(1);
  await ask(`GET /dead-letters/${(await dead())[0].id}`);
  for (const act of ["retry", "drop"]) {
    await ask(`POST /dead-letters/${act}`, { body: { filter: { subscription: "billing" }, dryRun: true } });
  }
  await ask("POST /subscriptions/billing/remove", { body: { deliveries: "cancel" } });

  const pausable = ["queues/bulk", "names/wait"];
  for (const route of pausable) await ask(`POST /${route}/pause`);
  for (const path of ["queues", "names/paused"]) await ask(`GET /${path}`);
  for (const route of pausable) await ask(`POST /${route}/resume`);
  for (const path of ["workers", "stats", "metrics", "health/live", "health/ready"]) await ask(`GET /${path}`);
  await ask("POST /tick", { body: { maxMs: 10_000, queues: ["nothing"] } });

  const body = JSON.stringify({
    ...{ id: added, url: "http://jobs.test/execute", name: "tidy", version: 1, attempt: 1, fence: 1 },
    ...{ queue: "default", metadata: {}, timeoutMs: 5_000 },
  });
  const now = new Date();
  const signed = {
    "webhook-id": `${added}.1`,
    "webhook-timestamp": String(Math.floor(now.getTime() / 1_000)),
    "webhook-signature": new Webhook(signingKey).sign(`${added}.1`, now, body),
  };
  const executed = await ask("POST /execute", { body, scope: null, headers: signed });
  expect(executed.status, executed.text).toBe(200);

  // A running command, which is told to end.
  const holding = wait.handle(
    ({ signal }) =>
      new Promise((resolve) => signal.addEventListener("abort", () => resolve(undefined), { once: true })),
  );
  await using other = createOrchestrator({ database: site.driver, handlers: [holding] });
  await other.startWorker({ queues: ["held"] }).started;
  const held = (await ask("POST /commands", { body: { name: "wait", queue: "held" } })).json.id;
  await expect.poll(async () => (await ask(`GET /commands/${held}`)).json.status, { timeout: 20_000 }).toBe("running");
  expect((await ask(`POST /commands/${held}/cancel`)).status).toBe(202);

  const described = Object.entries<any>(description.paths).flatMap(([path, methods]) =>
    Object.entries<any>(methods).flatMap(([method, { responses }]) =>
      Object.entries<any>(responses)
        .filter(([status]) => status !== "default")
        .flatMap(([status, { content }]) =>
          Object.keys(content ?? { "": {} }).map((media) => `${method.toUpperCase()} ${path} ${status} ${media}`),
        ),
    ),
  );
  expect(described.filter((one) => !answered.has(one))).toEqual([]);
});
