import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { getRequestListener } from "@hono/node-server";
import { Hono } from "hono";
import {
  createOrchestrator,
  defineCommand,
  defineEvent,
  InvalidInputError,
  InvalidOutputError,
  type Orchestrator,
  PermanentFailure,
  UnknownCommandError,
  WaitTimeoutError,
} from "orchestratum";
import {
  type Client,
  type ClientOptions,
  createClient,
  HttpProblemError,
  ServerUnreachableError,
} from "orchestratum/client";
import { router, tokenAuthoriser } from "orchestratum/hono";
import { postgresJs } from "orchestratum/postgres-js";
import * as v from "valibot";
import { afterAll, beforeAll, expect, expectTypeOf, test, vi } from "vitest";
import { readEvents } from "../../adapters/client/sse.ts";
import { createDatabase, type Database } from "../database.ts";

const double = defineCommand({
  name: "double",
  input: v.object({ of: v.number() }),
  output: v.object({ doubled: v.number() }),
});
const fail = defineCommand({ name: "fail" });
const slow = defineCommand({ name: "slow" });
const never = defineCommand({ name: "never", queue: "nobody" });
const happened = defineEvent({ topic: "tests.happened", data: v.object({ what: v.string() }) });

const token = "a-token-of-more-than-sixteen-characters";
let database: Database;
let orchestrator: Orchestrator;
let server: Server;
let url: string;
let release = (): void => {};

beforeAll(async () => {
  database = await createDatabase({ max: 10 });
  orchestrator = createOrchestrator({
    database: postgresJs(database.sql),
    handlers: [
      double.handle(({ input }) => ({ doubled: input.of * 2 })),
      fail.handle(() => {
        throw new PermanentFailure("the sea is too rough");
      }),
      slow.handle(async ({ progress, signal }) => {
        progress({ half: true });
        await new Promise<void>((resolve) => {
          release = resolve;
          signal.addEventListener("abort", () => resolve(), { once: true });
        });
      }),
    ],
    commands: [never],
  });
  orchestrator.startWorker();
  const app = new Hono();
  const authorise = tokenAuthoriser([{ name: "tests", token, scopes: ["push", "read", "admin"] }]);
  app.route("/jobs", router(orchestrator, { authorise, events: [happened] }));
  server = createServer((request, response) => void getRequestListener(app.fetch)(request, response));
  server.listen(0, "127.0.0.1");
  await new Promise((resolve) => server.once("listening", resolve));
  url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/jobs`;
});
afterAll(async () => {
  await orchestrator.stop();
  server.closeAllConnections();
  server.close();
  await database.drop();
});

const connect = (options: Partial<ClientOptions> = {}): Client => createClient({ url, token, ...options });
const rows = async (name: string): Promise<number> =>
  Number((await database.sql`select count(*) from orchestratum.all_commands where name = ${name}`)[0]?.count);

test("a command is pushed, waited for and read, typed by its contract", async () => {
  const client = connect();
  const pushed = await client.push(double({ of: 21 }));
  const outcome = await client.waitFor(pushed.id, { timeoutMs: 30_000 });
  expect(outcome).toMatchObject({ status: "succeeded", output: { doubled: 42 }, finishedAt: expect.any(Date) });
  if (outcome.status === "succeeded") expectTypeOf(outcome.output).toEqualTypeOf<{ doubled: number }>();
  const elsewhere = await client.waitFor(double, pushed.id as string);
  expectTypeOf(elsewhere).toEqualTypeOf(outcome);
  expect(await client.get(pushed.id)).toMatchObject({
    name: "double",
    input: { of: 21 },
    output: { doubled: 42 },
    createdAt: expect.any(Date),
    metadata: { actor: { id: "tests" } },
  });
  expect(await client.get(crypto.randomUUID())).toBeUndefined();
  // @ts-expect-error a wrong input does not compile
  await expect(client.push(double({ of: "21" }))).rejects.toThrow(InvalidInputError);
});

test("what is wrong is refused before anything is sent, and by name", async () => {
  const sent: string[] = [];
  const client = connect({
    fetch: async (input) => {
      sent.push(input);
      throw new Error("sent");
    },
  });
  await expect(client.push(double({ of: "x" as never }))).rejects.toThrow(InvalidInputError);
  await expect(client.push(double as never)).rejects.toThrow("a contract: call it with an input");
  await expect(client.push(double({ of: 1 }, { id: crypto.randomUUID() }))).rejects.toThrow("idempotencyKey");
  await expect(client.get("no id")).rejects.toThrow("an id is a UUID");
  await expect(client.waitFor(crypto.randomUUID(), { timeoutMs: -1 })).rejects.toThrow(RangeError);
  expect(sent).toEqual([]);
  expect(() => createClient({ url: "/jobs" })).toThrow("absolute");
  expect(() => createClient({ url: "ftp://x" })).toThrow("http");
  expect(() => createClient({ url, retries: -1 })).toThrow(RangeError);
});

test("a problem of the server's comes as a typed error with every issue", async () => {
  const error = await connect({ token: "another" })
    .push(double({ of: 1 }))
    .catch((caught: unknown) => caught);
  expect(error).toBeInstanceOf(HttpProblemError);
  expect(error).toMatchObject({ status: 401, type: "urn:orchestratum:problem:unauthorised" });
  const unknown = defineCommand({ name: "unknown_here" });
  const refused = await connect()
    .push(unknown())
    .catch((caught: unknown) => caught);
  expect(refused).toMatchObject({ status: 422, issues: [{ path: "name", message: "is not known here" }] });
});

test("a push whose reply is lost, or refused for a while, is sent again and pushes once", async () => {
  const before = await rows("double");
  let tries = 0;
  const client = connect({
    fetch: async (input, init) => {
      tries += 1;
      if (tries === 1) return new Response("busy", { status: 503, headers: { "Retry-After": "0" } });
      const response = await fetch(input, init);
      if (tries === 2) throw new TypeError("fetch failed", { cause: new Error("read ECONNRESET") });
      return response;
    },
  });
  const { id } = await client.push(double({ of: 3 }));
  expect(tries).toBe(3);
  expect(await client.waitFor(id, { timeoutMs: 30_000 })).toMatchObject({ output: { doubled: 6 } });
  expect(await rows("double")).toBe(before + 1);
  // What the server refuses for good is sent once; what never gets through says where it went.
  tries = 3;
  await expect(connect({ token: "wrong", fetch: (...given) => (tries++, fetch(...given)) }).queues()).rejects.toThrow(
    "401",
  );
  expect(tries).toBe(4);
  const closed = createServer().listen(0, "127.0.0.1");
  await new Promise((resolve) => closed.once("listening", resolve));
  const { port } = closed.address() as AddressInfo;
  await new Promise((resolve) => closed.close(resolve));
  const nowhere = createClient({ url: `http://127.0.0.1:${port}/jobs`, retries: 1 });
  await expect(nowhere.queues()).rejects.toThrow(/Cannot read queues: 127\.0\.0\.1:\d+ did not answer: .*refused/i);
});

test("a list is pushed as a whole, and lines each for themselves, however many", async () => {
  const client = connect();
  const pair = await client.push([double({ of: 1 }), fail()], { priority: 1 });
  expectTypeOf(pair).toHaveProperty("length").toEqualTypeOf<2>();
  expect((await client.get(pair[0].id))?.priority).toBe(1);

  const sizes: number[] = [];
  let cut = true;
  const counting = connect({
    fetch: async (input, init) => {
      const response = await fetch(input, init);
      const text = await response.text();
      const lines = text.split("\n");
      sizes.push(lines.length);
      if (!cut) return new Response(text, response);
      // The connection breaks off half-way through the answers.
      cut = false;
      return new Response(lines.slice(0, 40).join("\n"), response);
    },
  });
  const count = 1_200;
  const good = Array.from({ length: count }, () => never());
  const ids = new Set<string>();
  let line = 0;
  for await (const answer of counting.pushMany(good, { idempotencyKey: "good" })) {
    expect(answer.line).toBe(++line);
    if ("id" in answer) ids.add(answer.id);
  }
  expect(ids.size).toBe(count);
  const again = new Set<string>();
  for await (const answer of client.pushMany(good, { idempotencyKey: "good" }))
    if ("id" in answer) again.add(answer.id);
  expect(again).toEqual(ids);
  expect((await client.queues()).find(({ queue }) => queue === "nobody")?.pending).toBeGreaterThanOrEqual(count);
});

test("waiting ends by its limit, its signal and for an unknown id; a failure is an outcome", async () => {
  const client = connect();
  const { id } = await client.push(never());
  await expect(client.waitFor(id, { timeoutMs: 300 })).rejects.toThrow(WaitTimeoutError);
  const controller = new AbortController();
  const waiting = expect(client.waitFor(id, { signal: controller.signal })).rejects.toThrow("enough");
  setTimeout(() => controller.abort(new Error("enough")), 100);
  await waiting;
  await expect(client.waitFor(crypto.randomUUID())).rejects.toThrow(UnknownCommandError);
  const failed = await client.push(fail());
  expect(await client.waitFor(failed.id, { timeoutMs: 30_000 })).toMatchObject({
    status: "failed",
    error: { message: expect.stringContaining("too rough") },
  });
  const other = defineCommand({ name: "double", output: v.object({ tripled: v.number() }) });
  const done = await client.push(double({ of: 1 }));
  await expect(client.waitFor(other, done.id)).rejects.toThrow(InvalidOutputError);
});

test("a result is waited for by one request, not by asking again and again", async () => {
  let requests = 0;
  const client = connect({ fetch: (...given) => (requests++, fetch(...given)) });
  const unset = () => {};
  release = unset;
  const { id } = await client.push(slow());
  const waiting = client.waitFor(id, { timeoutMs: 30_000 });
  await vi.waitFor(() => expect(release).not.toBe(unset), { timeout: 20_000 });
  // In which nothing more may be asked.
  await new Promise((resolve) => setTimeout(resolve, 1_500));
  release();
  expect(await waiting).toMatchObject({ status: "succeeded" });
  // The push, one wait, and the output.
  expect(requests).toBe(3);
});

test("progress is streamed to the end, and goes on when the connection breaks", async () => {
  let streams = 0;
  const client = connect({
    fetch: async (input, init) => {
      const response = await fetch(input, init);
      if (!input.endsWith("/stream")) return response;
      streams += 1;
      if (streams > 1 || response.body === null) return response;
      const reader = response.body.getReader();
      const { value } = await reader.read();
      return new Response(
        new ReadableStream({
          start(controller) {
            controller.enqueue(value);
            setTimeout(() => {
              controller.error(new TypeError("terminated"));
              void reader.cancel();
            }, 100);
          },
        }),
        response,
      );
    },
  });
  const { id } = await client.push(slow());
  const seen: string[] = [];
  for await (const { status, progress, at } of client.progress(id)) {
    expect(at).toBeInstanceOf(Date);
    seen.push(status);
    if (JSON.stringify(progress) === '{"half":true}') release();
  }
  expect(seen.at(-1)).toBe("succeeded");
  expect(streams).toBe(2);
  await expect(client.progress(crypto.randomUUID()).next()).rejects.toThrow(UnknownCommandError);
});

test("who waits or follows goes on when the server comes back; who never reached one is told so", async () => {
  let away = 0;
  const flaky = (...given: Parameters<typeof fetch>): Promise<Response> => {
    if (away === 0) return fetch(...given);
    away -= 1;
    return Promise.reject(new TypeError("fetch failed"));
  };
  const client = connect({ retries: 0, fetch: (input, init) => flaky(input, init) });
  const { id } = await client.push(never());
  // The first request ends after its own second, so that the second one meets nobody.
  const short = connect({
    retries: 0,
    fetch: (input, init) => flaky(input, { ...init, headers: withoutPrefer(init.headers) }),
  });
  const waiting = short.waitFor(id, { timeoutMs: 30_000 });
  await new Promise((resolve) => setTimeout(resolve, 500));
  away = 3;
  await expect.poll(() => away, { timeout: 20_000 }).toBe(0);
  expect(await client.cancel(id)).toBe("cancelled");
  expect(await waiting).toMatchObject({ status: "cancelled" });

  away = 1;
  await expect(client.waitFor(id)).rejects.toThrow(ServerUnreachableError);
  away = 1;
  await expect(client.tail().next()).rejects.toThrow(ServerUnreachableError);
});

function withoutPrefer(headers: HeadersInit | undefined): Headers {
  const kept = new Headers(headers);
  kept.delete("prefer");
  return kept;
}

test("a stream that falls silent is taken for broken", async () => {
  const silent = new ReadableStream<Uint8Array>({
    start(controller) {
      controller.enqueue(new TextEncoder().encode(": ping\n\nevent: a\ndata: 1\n\n"));
    },
  });
  const events = readEvents(silent, 200);
  expect((await events.next()).value).toEqual({ event: "a", data: "1", id: undefined });
  await expect(events.next()).rejects.toThrow("Nothing came for 200 ms");
});

test("tail tells of what ends, each once", async () => {
  const client = connect();
  const controller = new AbortController();
  const { id } = await client.push(double({ of: 1 }), { delayMs: 500 });
  const told: string[] = [];
  for await (const command of client.tail({ signal: controller.signal, since: new Date(Date.now() - 60_000) })) {
    told.push(command.id);
    if (command.id === id) break;
  }
  expect(new Set(told).size).toBe(told.length);
});

test("asking and acting answer as the orchestrator does", async () => {
  const client = connect();
  const { id } = await client.push(never());
  expect(await client.explain(id)).toMatchObject({ cause: "no_worker", id });
  expect((await client.timeline(id))?.entries[0]).toMatchObject({ kind: "pushed", at: expect.any(Date) });
  expect((await client.tree(id))?.root.id).toBe(id);
  const found = await client.list({ name: "never", status: "pending" }, { limit: 2 });
  expect(found.commands).toHaveLength(2);
  expect(found.cursor).toEqual(expect.any(String));
  let all = 0;
  for await (const command of client.listAll({ name: "never", from: new Date(Date.now() - 3_600_000) }))
    all += command.name === "never" ? 1 : 0;
  expect(all).toBe(await rows("never"));
  expect((await client.workerList()).length).toBeGreaterThan(0);
  expect((await client.stats()).at).toBeInstanceOf(Date);
  expect(await client.pauseQueue("nobody")).toBe(true);
  expect(await client.pauseQueue("nobody")).toBe(false);
  expect((await client.queues()).find(({ queue }) => queue === "nobody")).toMatchObject({ paused: true });
  expect(await client.resumeQueue("nobody")).toBe(true);
  expect(await client.pauseName("nobody")).toBe(true);
  expect(await client.pausedNames()).toMatchObject([{ name: "nobody", pausedAt: expect.any(Date) }]);
  expect(await client.resumeName("nobody")).toBe(true);
  expect(await client.cancel(id)).toBe("cancelled");
  expect(await client.cancel(id)).toBe("finished");
  expect(await client.cancel(crypto.randomUUID())).toBe("unknown");
  expect(await client.retry(id)).toBe("retried");
  expect(await client.retry(id)).toBe("unfinished");
  const dry = await client.cancel({ name: "never" }, { dryRun: true });
  expect(dry.count).toBe((await client.queues()).find(({ queue }) => queue === "nobody")?.pending);
  expect(await client.cancel({ name: "never" })).toMatchObject({ count: dry.count });
});

test("queues and stats count hook commands where they are asked for", async () => {
  const client = connect();
  const { id } = await client.push(never({ of: "a hook" }, { queue: "hooked" }));
  await database.sql`update orchestratum.command set hook = 'failure' where id = ${id}`;
  const counted = async (options?: { hooks: boolean }) =>
    [await client.queues(options), (await client.stats(options)).queues].map(
      (queues) => queues.find(({ queue }) => queue === "hooked")?.pending,
    );
  await expect.poll(() => counted({ hooks: true }), { timeout: 10_000 }).toEqual([1, 1]);
  expect(await counted()).toEqual([undefined, undefined]);
  expect(await client.cancel(id)).toBe("cancelled");
});

test("what ended badly is listed, retried, dropped and erased", async () => {
  const client = connect();
  const { id } = await client.push(fail());
  expect(await client.waitFor(id, { timeoutMs: 30_000 })).toMatchObject({ status: "failed" });
  expect((await client.deadLetters({ queue: "default" })).commands[0]).toMatchObject({
    id,
    finishedAt: expect.any(Date),
  });
  expect(await client.deadLetter(id)).toMatchObject({ name: "fail", trail: [{ attempt: 1 }] });
  expect(await client.deadLetter(crypto.randomUUID())).toBeUndefined();
  const { count } = await client.retryDeadLetters({ queue: "default" }, { dryRun: true });
  expect(await client.retryDeadLetters({ queue: "default" }, { perSecond: 1_000 })).toMatchObject({ count });
  expect(await client.waitFor(id, { timeoutMs: 30_000 })).toMatchObject({ status: "failed" });
  expect(await client.erase(id)).toBe("erased");
  expect(await client.erase(crypto.randomUUID())).toBe("unknown");
  expect((await client.dropDeadLetters({ queue: "default" })).count).toBeGreaterThan(0);
  expect(await client.get(id)).toBeUndefined();
  expect(await client.subscriptions()).toEqual([]);
});

test("events are published, appended with an expected version, and read", async () => {
  const client = connect();
  await expect(client.publish(happened({ what: "x" }, { id: crypto.randomUUID() }))).rejects.toThrow("idempotencyKey");
  const { ids } = await client.publish(happened({ what: "this" }));
  expect(await client.eventStatus(ids[0] as string)).toMatchObject({ status: "published" });
  const first = await client.publish([happened({ what: "a" }), happened({ what: "b" })], {
    stream: "s",
    expectedVersion: 0,
  });
  expect(first.version).toBe(2);
  await expect(client.publish(happened({ what: "c" }), { stream: "s", expectedVersion: 0 })).rejects.toMatchObject({
    status: 409,
    document: { currentVersion: 2 },
  });
  expect((await client.readStream("s")).map(({ data }) => data)).toEqual([{ what: "a" }, { what: "b" }]);
  expect((await client.readAll({ topics: ["tests.#"] })).events).toHaveLength(3);
});
