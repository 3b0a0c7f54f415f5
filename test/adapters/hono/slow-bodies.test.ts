/**
 * Bodies that come slowly, or not any more: by a clock that the tests turn. And NDJSON of any length: no more of it is in
 * memory than is being answered.
 */
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { afterAll, afterEach, beforeAll, describe, expect, test, vi } from "vitest";
import { type PgliteDatabase, pglite } from "../../../adapters/pglite.ts";
import { postgresJs } from "../../../adapters/postgres-js.ts";
import { createDatabase } from "../../database.ts";
import { createSite, type Site, signingKey } from "./site.ts";

let database: PgliteDatabase;
let site: Site;
beforeAll(async () => {
  database = await pglite();
  site = createSite(database, { tickKeys: signingKey });
  await site.orchestrator.migrate();
});
afterAll(async () => {
  await site[Symbol.asyncDispose]();
  await database.close();
});
afterEach(() => void vi.useRealTimers());

const lines = "application/x-ndjson";

/** Sends a body that is made as it is read. */
async function send(
  route: string,
  body: ReadableStream<Uint8Array>,
  headers: Record<string, string> = {},
  { app }: Site = site,
): Promise<Response> {
  const { method, url, headers: usual } = site.request(route, { headers });
  return await app.request(new Request(url, { method, headers: usual, body, duplex: "half" } as RequestInit));
}

/**
 * A body with a part every so often, without end; after `parts` of them it is silent. Tells when it is read for the first
 * time, and whether it was given up.
 */
function dripping(part: string, everyMs: number, parts = Number.POSITIVE_INFINITY) {
  const cancelled = vi.fn<() => void>();
  let sent = 0;
  let begin = (): void => {};
  const begun = new Promise<void>((resolve) => {
    begin = resolve;
  });
  const body = new ReadableStream<Uint8Array>(
    {
      async pull(controller) {
        begin();
        await new Promise<void>((resolve) => {
          if (sent < parts) setTimeout(resolve, everyMs);
        });
        sent++;
        controller.enqueue(new TextEncoder().encode(part));
      },
      cancel: cancelled,
    },
    { highWaterMark: 0 },
  );
  return { body, cancelled, begun };
}

/** What is no timer goes on by itself: digests, and the database. */
async function turn(seconds: number): Promise<void> {
  for (let second = 0; second < seconds; second++) {
    for (let count = 0; count < 20; count++) await new Promise((resolve) => setImmediate(resolve));
    await vi.advanceTimersByTimeAsync(1_000);
  }
}

describe("a body that is not there within 30 s", () => {
  const signed = {
    "webhook-id": "slow",
    "webhook-timestamp": String(Math.floor(Date.now() / 1_000)),
    "webhook-signature": `v1,${btoa("x".repeat(32))}`,
  };
  test.each([
    ["POST /commands", {}],
    ["POST /commands/batch", {}],
    ["POST /events", {}],
    ["POST /queues/default/pause", {}],
    ["POST /tick", {}],
    ["POST /tick", signed],
  ])("is 408 for %s %o, however busy its sender is, and is read no further", async (route, headers) => {
    vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout"] });
    const { body, cancelled, begun } = dripping(" ", 4_000);
    let answer: Response | undefined;
    const sent = send(route, body, headers).then((response) => {
      answer = response;
    });
    await begun;
    await turn(29);
    expect([answer, cancelled.mock.calls.length]).toEqual([undefined, 0]);
    await turn(3);
    await sent;
    expect([answer?.status, answer?.headers.get("connection")]).toEqual([408, "close"]);
    expect(await answer?.json()).toMatchObject({ type: "urn:orchestratum:problem:timeout" });
    expect(cancelled).toHaveBeenCalledTimes(1);
  });
});

describe("NDJSON", () => {
  test("may take as long as it likes, and ends when nothing came for 30 s: what was answered stays", async () => {
    vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout"] });
    const { body, cancelled } = dripping('{"name":"wait","queue":"dripping"}\n', 25_000, 4);
    const response = await send("POST /commands/batch", body, { "Content-Type": lines });
    expect(response.status).toBe(200);
    let text = "";
    let isOver = false;
    const read = (async () => {
      for await (const part of response.body!.pipeThrough(new TextDecoderStream())) text += part;
      isOver = true;
    })();
    await turn(4 * 25 + 27);
    expect([text.trim().split("\n").length, isOver, cancelled.mock.calls.length]).toEqual([4, false, 0]);
    await turn(6);
    await read;
    const answers = text
      .trim()
      .split("\n")
      .map((line) => JSON.parse(line));
    expect(answers.map(({ line, id }) => [line, typeof id])).toEqual([
      [1, "string"],
      [2, "string"],
      [3, "string"],
      [4, "string"],
      [undefined, "undefined"],
    ]);
    const problem = expect.objectContaining({ status: 408, type: "urn:orchestratum:problem:timeout" });
    expect(answers[4]).toEqual({ done: false, accepted: 4, refused: 0, problem });
    expect(cancelled).toHaveBeenCalledTimes(1);
    expect((await site.orchestrator.list({ queue: "dripping", status: "pending" })).commands).toHaveLength(4);
  });

  /** Lines, 100 to a part; of 20 one is a command that may be pushed, the others have an unknown name. */
  function lineSource(count: number) {
    const filler = "x".repeat(200);
    const made = { lines: 0, bytes: 0 };
    const body = new ReadableStream<Uint8Array>(
      {
        pull(controller) {
          const part = Array.from({ length: 100 }, () => {
            const name = made.lines++ % 20 === 0 ? "wait" : "nobody";
            return `${JSON.stringify({ name, queue: "long", input: `${made.lines} ${filler}` })}\n`;
          }).join("");
          made.bytes += part.length;
          controller.enqueue(new TextEncoder().encode(part));
          if (made.lines >= count) controller.close();
        },
      },
      { highWaterMark: 0 },
    );
    return { body, made };
  }

  test("is not read from while its sender does not read the answers", async () => {
    const { body, made } = lineSource(1_000_000);
    const response = await send("POST /commands/batch", body, { "Content-Type": lines });
    const reader = response.body!.getReader();
    for (let count = 1; count <= 5; count++) {
      await reader.read();
      for (let turns = 0; turns < 200; turns++) await new Promise((resolve) => setImmediate(resolve));
      // One part of the body for one part of the answers, and one more that is on its way.
      expect(made.lines).toBeLessThanOrEqual((count + 1) * 100);
    }
    await reader.cancel();
  });

  test("of 200,000 lines needs no more memory than of 20,000, and each is answered", async () => {
    setFlagsFromString("--expose-gc");
    const collect = runInNewContext("gc") as () => void;
    const used = () => {
      collect();
      const { heapUsed, arrayBuffers } = process.memoryUsage();
      return heapUsed + arrayBuffers;
    };
    // Not in this process: an embedded database would keep what is pushed in the memory that is looked at.
    const server = await createDatabase({ max: 4 });
    await using other = createSite(postgresJs(server.sql));
    const count = 200_000;
    const { body, made } = lineSource(count);
    const response = await send("POST /commands/batch", body, { "Content-Type": lines }, other);
    const memory: number[] = [];
    let answers = 0;
    let last = "";
    for await (const part of response.body!.pipeThrough(new TextDecoderStream())) {
      answers += part.split("\n").length - 1;
      last = part;
      expect(made.lines - answers).toBeLessThanOrEqual(1_000);
      if (answers >= (memory.length + 1) * 20_000) memory.push(used());
    }
    expect(JSON.parse(last)).toEqual({ done: true, accepted: count / 20, refused: (count / 20) * 19 });
    expect(answers).toBe(count + 1);
    expect(memory).toHaveLength(10);
    const [first = 0] = memory;
    // A tenth of what was sent in between: what is kept of every line would be more.
    expect(Math.max(...memory) - first).toBeLessThan(made.bytes / 10);
    await other.orchestrator.stop();
    await server.drop();
  }, 120_000);
});
