/**
 * What needs a socket, and a real server behind it: waiting, streams, bodies that arrive in pieces, clients that leave.
 * The same for whatever serves the router: Node.js in sockets.test.ts, the others in test/matrix.
 */

import { connect, type Socket } from "node:net";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { postgresJs } from "../../../adapters/postgres-js.ts";
import { createOrchestrator, defineCommand, type Orchestrator } from "../../../src/index.ts";
import { createDatabase, type Database } from "../../database.ts";
import { tokenOf } from "./contracts.ts";
import { onceASecond } from "./once-a-second.ts";
import type { Seen } from "./served-site.ts";

/** What was started to serve `createServedSite()` on a database. */
export interface Serving extends AsyncDisposable {
  /** `http://127.0.0.1:4711` */
  readonly base: string;
}

/**
 * Declares the tests, for a server that closes the connection of who sends too much (`cutsOff`), and notices at once that
 * the client of a stream has left (`noticesLeaving`), or does not.
 */
export function socketCases(
  serve: (database: Database) => Promise<Serving>,
  { cutsOff = true, noticesLeaving = true } = {},
): void {
  let database: Database;
  let serving: Serving;
  let orchestrator: Orchestrator;
  let base: string;
  let port: number;

  beforeAll(async () => {
    database = await createDatabase({ max: 8 });
    orchestrator = createOrchestrator({ database: postgresJs(database.sql) });
    serving = await serve(database);
    base = serving.base;
    port = Number(new URL(base).port);
  });
  afterAll(async () => {
    await orchestrator.stop();
    await serving[Symbol.asyncDispose]();
    await database.drop();
  });

  const seen = async (): Promise<Seen> => (await (await fetch(`${base}/seen`)).json()) as Seen;

  /** How many statements were sent that call a function. */
  const sent = async (name: string): Promise<number> =>
    Object.entries((await seen()).statements)
      .filter(([text]) => text.includes(`.${name}(`))
      .reduce((sum, [, count]) => sum + count, 0);

  const leaving: AbortController[] = [];
  afterEach(() => {
    for (const controller of leaving.splice(0)) controller.abort();
  });

  const headers = { Authorization: `Bearer ${tokenOf("everything")}`, "Content-Type": "application/json" };

  async function get(path: string, more: Record<string, string> = {}): Promise<Response> {
    const controller = new AbortController();
    leaving.push(controller);
    return await fetch(`${base}${path}`, {
      headers: { ...headers, ...more },
      signal: controller.signal,
      redirect: "manual",
    });
  }

  async function push(body: object): Promise<string> {
    const answer = await fetch(`${base}/commands`, { method: "POST", headers, body: JSON.stringify(body) });
    expect(answer.status).toBe(202);
    return ((await answer.json()) as { id: string }).id;
  }

  /** The events of a stream, one by one; comments are left out. */
  async function* eventsOf(response: Response): AsyncGenerator<{ event: string; data: any; id: string | undefined }> {
    let text = "";
    for await (const part of response.body!.pipeThrough(new TextDecoderStream())) {
      text += part;
      for (let end = text.indexOf("\n\n"); end >= 0; end = text.indexOf("\n\n")) {
        const lines = text.slice(0, end).split("\n");
        text = text.slice(end + 2);
        const field = (name: string) => lines.find((line) => line.startsWith(`${name}: `))?.slice(name.length + 2);
        const event = field("event");
        if (event) yield { event, data: JSON.parse(field("data") ?? "null"), id: field("id") };
      }
    }
  }

  describe("Prefer: wait", () => {
    test("answers when the command has ended, and not before", async () => {
      const id = await push({ name: "add", input: { a: 1 }, delayMs: 700 });
      const answer = await get(`/commands/${id}`, { Prefer: "respond-async, wait=30" });
      expect([answer.status, answer.headers.get("preference-applied")]).toEqual([200, "wait=30"]);
      expect(((await answer.json()) as any).status).toBe("succeeded");
      const output = await get(`/commands/${await push({ name: "add", input: { a: 2 } })}/output`, {
        Prefer: "wait=30",
      });
      expect(await output.json()).toEqual({ sum: 3 });
      const redirected = await get(`/commands/${id}?redirect=true`, { Prefer: "wait=30" });
      expect(redirected.status).toBe(303);
    });

    test("answers the present state when the time is over, and 404 for none", async () => {
      const id = await push({ name: "wait" });
      const answer = await get(`/commands/${id}`, { Prefer: "wait=1" });
      expect([answer.status, answer.headers.get("retry-after"), ((await answer.json()) as any).status]).toEqual([
        200,
        "1",
        "pending",
      ]);
      expect((await get(`/commands/${crypto.randomUUID()}`, { Prefer: "wait=5" })).status).toBe(404);
    });
  });

  describe("GET /commands/:id/stream", () => {
    test("tells the present status and each new one, and ends with the command", async () => {
      const id = await push({ name: "add", input: { a: 1 }, delayMs: 3_600_000 });
      const seen = [];
      for await (const { event, data, id: last } of eventsOf(await get(`/commands/${id}/stream`))) {
        expect(event).toBe("status");
        seen.push([data.status, last]);
        if (data.status === "scheduled") await orchestrator.reschedule(id, { delayMs: 0 });
      }
      expect(seen[0]).toEqual(["scheduled", undefined]);
      const last = seen.at(-1)?.[1];
      expect(seen.at(-1)).toEqual(["succeeded", expect.stringMatching(/^over\./)]);
      // A browser comes back by itself, and is told not to.
      expect((await get(`/commands/${id}/stream`, { "Last-Event-ID": last })).status).toBe(204);
      const again = [];
      for await (const { data } of eventsOf(await get(`/commands/${id}/stream`))) again.push(data.status);
      expect(again).toEqual(["succeeded"]);
    });

    test("is one statement a second, however many watch, and none when they have gone", async () => {
      const ids = await Promise.all(Array.from({ length: 20 }, () => push({ name: "wait" })));
      const open = () => Promise.all([...ids, ...ids].map((id) => get(`/commands/${id}/stream`)));
      const areOpen = (streams: Response[]) => streams.every(({ status }) => status === 200);
      const streams = await open();
      expect(areOpen(streams)).toBe(true);
      const count = () => sent("progress");
      await onceASecond(count);
      expect(streams).toHaveLength(40);
      if (!noticesLeaving) return;
      const leave = () => {
        for (const controller of leaving.splice(0)) controller.abort();
      };
      /** How many statements there are for streams that were left a moment ago, well before a ping would find that out. */
      const afterLeaving = async () => {
        leave();
        // There is no room for all of them as long as those that left have stayed.
        if (!areOpen(await open())) return "refused";
        leave();
        await new Promise((resolve) => setTimeout(resolve, 2_500));
        const before = await count();
        await new Promise((resolve) => setTimeout(resolve, 2_500));
        return (await count()) - before;
      };
      // More than once, since a busy machine may take longer to notice.
      await expect.poll(afterLeaving, { timeout: 60_000 }).toBe(0);
    }, 180_000);

    test.each(noticesLeaving ? [60] : [])(
      "refuses more than %s, and takes others when some have left",
      async (count) => {
        const id = await push({ name: "wait" });
        const open = await Promise.all(Array.from({ length: count }, () => get(`/commands/${id}/stream`)));
        expect(open.every(({ status }) => status === 200)).toBe(true);
        const refused = await get(`/commands/${id}/stream`);
        expect([refused.status, refused.headers.get("retry-after")]).toEqual([503, "10"]);
        expect((await get("/stream")).status).toBe(503);
        for (const controller of leaving.splice(0)) controller.abort();
        await expect.poll(async () => (await get(`/commands/${id}/stream`)).status, { timeout: 10_000 }).toBe(200);
      },
    );

    test("pings while there is nothing to tell", async () => {
      const response = await get(`/commands/${await push({ name: "wait" })}/stream`);
      let text = "";
      for await (const part of response.body!.pipeThrough(new TextDecoderStream())) {
        text += part;
        if (text.includes(": ping\n\n")) break;
      }
      expect(text).toMatch(/^(?:: ping\n\n)?event: status\n/);
    }, 30_000);
  });

  describe("GET /stream", () => {
    test("tells everything that ends, once each to whoever stays, in the order of the ends", async () => {
      const [one, other] = await Promise.all([get("/stream"), get("/stream")]);
      const body = Array.from({ length: 300 }, (_, a) => ({ name: "add", input: { a } }));
      const answer = await fetch(`${base}/commands/batch`, { method: "POST", headers, body: JSON.stringify(body) });
      const wanted = new Set(((await answer.json()) as any).commands.map(({ id }: { id: string }) => id));
      await orchestrator.waitFor([...wanted] as string[], { timeoutMs: 30_000 });
      // Two reads later, which find most of them once more, there is one that ends the looking.
      await new Promise((resolve) => setTimeout(resolve, 2_500));
      const last = await push({ name: "add", input: { a: 1 } });
      for (const stream of [one, other]) {
        const seen: string[] = [];
        for await (const { event, data, id } of eventsOf(stream)) {
          expect(event).toBe("ended");
          expect(data.input).toBe(undefined);
          expect(id).toBe(data.finishedAt);
          if (data.id === last) break;
          if (wanted.has(data.id)) seen.push(data.id);
        }
        expect(new Set(seen)).toEqual(wanted);
        expect(seen.length).toBe(wanted.size);
      }
    });

    test("takes up where a client left, by Last-Event-ID", async () => {
      const first = await get("/stream");
      const id = await push({ name: "add", input: { a: 1 } });
      let last = "";
      for await (const { data, id: eventId } of eventsOf(first)) {
        last = eventId as string;
        if (data.id === id) break;
      }
      const missed = await push({ name: "add", input: { a: 2 } });
      await orchestrator.waitFor(missed as never, { timeoutMs: 20_000 });
      const seen: string[] = [];
      for await (const { data } of eventsOf(await get("/stream", { "Last-Event-ID": last }))) {
        seen.push(data.id);
        if (data.id === missed) break;
      }
      expect(seen).toContain(missed);
    });

    test("is one statement a second, however many watch", async () => {
      const streams = await Promise.all(Array.from({ length: 30 }, () => get("/stream")));
      await onceASecond(() => sent("list"));
      // Held until here: a response that nobody refers to is cancelled when it is collected.
      expect(streams).toHaveLength(30);
    });
  });

  describe("GET /events as a stream", () => {
    const follow = (query: string, more = {}) => get(`/events?${query}`, { Accept: "text/event-stream", ...more });
    const publish = async (...orders: string[]) => {
      const events = orders.map((order) => ({ topic: "orders.events.placed", data: { order, total: 1 } }));
      const body = JSON.stringify({ events: [{ topic: "notes.noted" }, ...events] });
      expect((await fetch(`${base}/events`, { method: "POST", headers, body })).status).toBe(202);
    };
    const take = async (response: Response, count: number) => {
      const seen = [];
      for await (const one of eventsOf(response)) {
        seen.push(one);
        if (seen.length === count) break;
      }
      return seen;
    };

    test("tells what there is and what comes, by topics, once and in order, also to who comes back", async () => {
      await publish("a", "b");
      const [one, other] = await Promise.all([follow("topic=orders.%23"), follow("topic=orders.events.*&after=0")]);
      const streams = [take(one, 4), take(other, 4)];
      await new Promise((resolve) => setTimeout(resolve, 1_500));
      await publish("c", "d");
      for (const seen of await Promise.all(streams)) {
        expect(seen.map(({ event, data }) => [event, data.data.order])).toEqual(
          ["a", "b", "c", "d"].map((order) => ["event", order]),
        );
      }
      const [, second] = await streams[0]!;
      const again = await take(await follow("topic=orders.%23", { "Last-Event-ID": second!.id as string }), 2);
      expect(again.map(({ data }) => data.data.order)).toEqual(["c", "d"]);
    });

    test("is one statement a second for all that have caught up", async () => {
      const streams = await Promise.all(Array.from({ length: 20 }, () => follow("topic=orders.%23")));
      // Nothing is published meanwhile: what is placed would be read in a second statement.
      await onceASecond(() => sent("read_log"));
      expect(streams).toHaveLength(20);
    });
  });

  /** A connection that writes what it is told, and collects what comes. */
  function raw(): { socket: Socket; text: () => string; ended: Promise<void> } {
    const socket = connect(port, "127.0.0.1");
    let text = "";
    socket.setEncoding("utf8").on("data", (part) => {
      text += part;
    });
    socket.on("error", () => {});
    return { socket, text: () => text, ended: new Promise((resolve) => socket.on("close", () => resolve())) };
  }

  const head = (path: string, more: string[]): string =>
    [`POST ${path} HTTP/1.1`, "Host: 127.0.0.1", `Authorization: ${headers.Authorization}`, ...more, "", ""].join(
      "\r\n",
    );

  describe("bodies", () => {
    test("in chunks are limited as they come, and their sender is cut off", async () => {
      const { socket, text, ended } = raw();
      socket.write(head("/commands", ["Content-Type: application/json", "Transfer-Encoding: chunked"]));
      const chunk = `${(16_384).toString(16)}\r\n${"x".repeat(16_384)}\r\n`;
      let sent = 0;
      const feed = setInterval(() => {
        if (socket.destroyed) return;
        socket.write(chunk);
        sent += 16_384;
      }, 5);
      await expect.poll(text, { timeout: 20_000 }).toMatch(/^HTTP\/1\.1 413 /);
      if (!cutsOff) socket.destroy();
      await ended;
      clearInterval(feed);
      expect(text()).toContain("application/problem+json");
      expect(sent).toBeLessThan(5_000_000);
    });

    test("with a length over the limit are refused unread", async () => {
      const { socket, text } = raw();
      socket.write(head("/commands", ["Content-Type: application/json", "Content-Length: 99999999"]));
      await expect.poll(text, { timeout: 20_000 }).toMatch(/^HTTP\/1\.1 413 /);
      socket.destroy();
    });

    test("whose senders are slow, or break off, keep nobody else waiting", async () => {
      const slow = Array.from({ length: 50 }, () => {
        const one = raw();
        one.socket.write(head("/commands", ["Content-Type: application/json", "Content-Length: 1000"]));
        one.socket.write('{"name":');
        return one;
      });
      const id = await push({ name: "add", input: { a: 1 } });
      expect((await get(`/commands/${id}/output`, { Prefer: "wait=20" })).status).toBe(200);
      for (const { socket } of slow) socket.destroy();
      expect((await get("/health/ready")).status).toBe(200);
      expect((await seen()).internalErrors).toEqual([]);
    });
  });

  describe("NDJSON", () => {
    test("is answered while it is sent, and what was accepted stays when the sender breaks off", async () => {
      const { socket, text } = raw();
      socket.write(head("/commands/batch", ["Content-Type: application/x-ndjson", "Transfer-Encoding: chunked"]));
      const send = (part: string) => socket.write(`${Buffer.byteLength(part).toString(16)}\r\n${part}\r\n`);
      const line = `${JSON.stringify({ name: "wait", queue: "broken-off", input: 1 })}\n`;
      send(line);
      await expect.poll(text, { timeout: 20_000 }).toContain('{"line":1,"id":');
      send(line + line.slice(0, 20));
      await expect.poll(text, { timeout: 20_000 }).toContain('{"line":2,"id":');
      socket.destroy();
      const { commands } = await orchestrator.list({ queue: "broken-off", status: "pending" });
      expect(commands).toHaveLength(2);
      expect((await get("/health/live")).status).toBe(200);
    });

    test("may be longer than any other body, and every line is answered", async () => {
      const count = 20_000;
      const filler = "x".repeat(1_000);
      let sent = 0;
      const body = new ReadableStream<Uint8Array>({
        pull(controller) {
          const lines = Array.from({ length: 100 }, () =>
            JSON.stringify({ name: "wait", queue: "many", input: `${sent++} ${filler}` }),
          );
          controller.enqueue(new TextEncoder().encode(`${lines.join("\n")}\n`));
          if (sent >= count) controller.close();
        },
      });
      const answer = await fetch(`${base}/commands/batch`, {
        method: "POST",
        headers: { ...headers, "Content-Type": "application/x-ndjson" },
        body,
        duplex: "half",
      } as RequestInit);
      let answers = 0;
      let last = "";
      for await (const part of answer.body!.pipeThrough(new TextDecoderStream())) {
        const lines = (last + part).split("\n");
        last = lines.at(-1) === "" ? (lines.at(-2) ?? "") : (lines.at(-1) ?? "");
        answers += lines.length - 1;
        if (lines.at(-1) === "") last = "";
        if (part.includes('"done"')) last = part.trim().split("\n").at(-1) ?? "";
      }
      expect(JSON.parse(last)).toEqual({ done: true, accepted: count, refused: 0 });
      expect(answers).toBe(count + 1);
    }, 120_000);
  });

  test("cancelling over HTTP reaches a handler that runs", async () => {
    let begun = (): void => {};
    const running = new Promise<void>((resolve) => {
      begun = resolve;
    });
    const sleep = defineCommand({ name: "sleep", queue: "sleep" });
    const worker = createOrchestrator({
      database: postgresJs(database.sql),
      handlers: [
        sleep.handle(async ({ signal }) => {
          begun();
          await new Promise((_, reject) => signal.addEventListener("abort", () => reject(signal.reason)));
        }),
      ],
    });
    await worker.startWorker({ queues: ["sleep"] }).started;
    const { id } = await worker.push(sleep());
    await running;
    const answer = await fetch(`${base}/commands/${id}/cancel`, { method: "POST", headers });
    expect([answer.status, ((await answer.json()) as any).result]).toEqual([202, "requested"]);
    const ended = await get(`/commands/${id}`, { Prefer: "wait=30" });
    expect(((await ended.json()) as any).status).toBe("cancelled");
    await worker.stop({ graceMs: 0 });
  }, 60_000);
}
