/** What an endpoint takes and refuses, and what callers make of answers. What users notice is in signed-call-cases.ts. */
import { Webhook } from "standardwebhooks";
import * as v from "valibot";
import { afterAll, describe, expect, test } from "vitest";
import { openTelemetry } from "../adapters/opentelemetry.ts";
import { permanent, retryAfterMs } from "../src/failure.ts";
import {
  callEndpoint,
  createOrchestrator,
  type Driver,
  defineCommand,
  EndpointError,
  type Fetch,
  type Handler,
  type Middleware,
  type ReceiveCallOptions,
  receiveCall,
} from "../src/index.ts";
import { createSigner } from "../src/signature.ts";
import { createFakeClock } from "./fake-clock.ts";

const url = "https://endpoint.example/execute";
const keyOf = (letter: string): string => `whsec_${btoa(letter.repeat(32))}`;
const key = keyOf("a");
const id = "0197a000-0000-7000-8000-000000000001";
const encode = (text: string): Uint8Array<ArrayBuffer> => new TextEncoder().encode(text);
const seconds = (): number => Math.floor(Date.now() / 1000);

const add = defineCommand({ name: "add", input: v.object({ a: v.number(), b: v.number() }), output: v.number() });

function adding(options: Partial<ReceiveCallOptions> = {}) {
  const runs: unknown[] = [];
  const handler = add.handle(({ input, fence }) => {
    runs.push([input, fence]);
    return input.a + input.b;
  });
  return { receive: receiveCall({ handlers: [handler], keys: key, url, ...options }), runs };
}

interface Sent {
  body?: Record<string, unknown> | string;
  keys?: string | string[];
  at?: number;
  webhookId?: string;
  headers?: Record<string, string | undefined>;
  method?: string;
  to?: string;
  tamper?: (text: string) => string;
}

/** A call as a worker makes it, but for what is said otherwise. */
async function request(sent: Sent = {}): Promise<Request> {
  const call = { url, id, fence: 1, name: "add", version: 1, attempt: 1, timeoutMs: 5_000, input: { a: 1, b: 2 } };
  const text = typeof sent.body === "string" ? sent.body : JSON.stringify({ ...call, ...sent.body });
  const signer = createSigner("Cannot test", sent.keys ?? key);
  const fence = typeof sent.body === "object" && typeof sent.body.fence === "number" ? sent.body.fence : 1;
  const signed = await signer.sign(sent.webhookId ?? `${id}.${fence}`, sent.at ?? seconds(), encode(text));
  const headers = new Headers({ "content-type": "application/json", ...signed });
  for (const [name, value] of Object.entries(sent.headers ?? {})) {
    if (value === undefined) headers.delete(name);
    else headers.set(name, value);
  }
  const method = sent.method ?? "POST";
  return new Request(sent.to ?? url, {
    method,
    headers,
    ...(method === "POST" ? { body: (sent.tamper ?? ((same) => same))(text) } : {}),
  });
}

async function answerOf(response: Response | Promise<Response>) {
  const it = await response;
  return { status: it.status, type: it.headers.get("content-type"), body: await it.json() };
}

describe("signatures", () => {
  test("are those of Standard Webhooks, both ways", async () => {
    const body = '{"é":1}';
    const at = new Date(seconds() * 1000);
    const theirs = new Webhook(key);
    const ours = await createSigner("Cannot test", [keyOf("b"), key]).sign(
      `${id}.1`,
      at.getTime() / 1000,
      encode(body),
    );
    expect(theirs.verify(body, ours)).toEqual({ é: 1 });
    expect(ours["webhook-signature"]?.split(" ")).toContain(theirs.sign(`${id}.1`, at, body));

    const { receive } = adding();
    const call = await (await request()).text();
    const made = theirs.sign(`${id}.1`, at, call);
    const response = receive(
      new Request(url, {
        method: "POST",
        headers: {
          "content-type": "application/json",
          "webhook-id": `${id}.1`,
          "webhook-timestamp": String(at.getTime() / 1000),
          "webhook-signature": made,
        },
        body: call,
      }),
    );
    expect(await answerOf(response)).toMatchObject({ status: 200, body: { status: "succeeded", output: 3 } });
  });

  test("are refused for what is no key, without showing it", () => {
    const bad: unknown[] = [
      "",
      "secret-secret-secret",
      `whsec_${btoa("short")}`,
      "whsec_*",
      1,
      [],
      [key, null],
      Array(9).fill(key),
    ];
    for (const keys of bad) {
      const make = () => receiveCall({ handlers: [add.handle(() => 1)], keys: keys as string });
      expect(make).toThrow(/^Cannot receive calls: (a key must be "whsec_"|keys must be)/);
      expect(make).not.toThrow(/secret-secret|short/);
    }
    expect(() => createSigner("Cannot test", `whsec_${btoa("x".repeat(65))}`)).toThrow("24 to 64 bytes");
  });
});

describe("an endpoint", () => {
  test("runs a call that is signed, and answers its outcome", async () => {
    const { receive, runs } = adding();
    const response = await receive(await request());
    expect(response.headers.get("cache-control")).toBe("no-store");
    expect(await answerOf(response)).toEqual({
      status: 200,
      type: "application/json",
      body: { status: "succeeded", output: 3, followUps: [], events: [] },
    });
    expect(runs).toEqual([[{ a: 1, b: 2 }, 1]]);
  });

  test("refuses what is not signed, signed by another, altered, cut, late or early, and runs nothing", async () => {
    const now = seconds();
    const { receive, runs } = adding({ now: () => now * 1000 });
    const good = (await request({ at: now })).headers.get("webhook-signature") as string;
    const wrong: [string, Sent][] = [
      ["no id", { headers: { "webhook-id": undefined } }],
      ["no timestamp", { headers: { "webhook-timestamp": undefined } }],
      ["no signature", { headers: { "webhook-signature": undefined } }],
      ["another key", { keys: keyOf("b") }],
      ["altered body", { tamper: (text) => text.replace('"a":1', '"a":9') }],
      ["a space more", { tamper: (text) => `${text} ` }],
      ["altered id", { headers: { "webhook-id": `${id}.2` } }],
      ["altered time", { headers: { "webhook-timestamp": String(now + 60) } }],
      ["cut signature", { headers: { "webhook-signature": good.slice(0, -4) } }],
      ["half a signature", { headers: { "webhook-signature": `v1,${good.slice(3, 25)}==` } }],
      ["empty signature", { headers: { "webhook-signature": "v1," } }],
      ["no version", { headers: { "webhook-signature": good.slice(3) } }],
      ["another version", { headers: { "webhook-signature": good.replace("v1,", "v2,") } }],
      ["no base64", { headers: { "webhook-signature": "v1,%%%" } }],
      ["too many signatures", { headers: { "webhook-signature": Array(100).fill(good).join(" ") } }],
      ["late", { at: now - 301 }],
      ["early", { at: now + 301 }],
      ["no number", { headers: { "webhook-timestamp": "1e9" } }],
      ["a negative time", { headers: { "webhook-timestamp": "-5" } }],
    ];
    for (const [what, sent] of wrong) {
      const { status, type, body } = await answerOf(receive(await request({ at: now, ...sent })));
      expect([what, status, type, body.status], what).toEqual([what, 401, "application/problem+json", 401]);
    }
    expect(runs).toEqual([]);
    for (const at of [now - 300, now + 300]) {
      const { receive: fresh } = adding({ now: () => now * 1000 });
      expect((await fresh(await request({ at }))).status).toBe(200);
    }
  });

  test("takes the old key and the new one while they rotate, on either side", async () => {
    const [old, young] = [keyOf("o"), keyOf("n")];
    for (const [theirs, ours] of [
      [[old], [old, young]],
      [[old, young], [young]],
      [[old, young], [old]],
      [[young], [old, young]],
    ] as const) {
      const { receive } = adding({ keys: ours });
      expect((await receive(await request({ keys: [...theirs] }))).status).toBe(200);
    }
    const { receive } = adding({ keys: [young] });
    expect((await receive(await request({ keys: old }))).status).toBe(401);
  });

  test("runs a lease once: what comes again is answered alike, at the same time and later", async () => {
    let runs = 0;
    let go = (): void => {};
    const gone = new Promise<void>((resolve) => {
      go = resolve;
    });
    const handler = add.handle(async () => {
      await gone;
      return ++runs;
    });
    const receive = receiveCall({ handlers: [handler], keys: key, url });
    const twins = [receive(await request()), receive(await request({ at: seconds() - 5 }))];
    // Both have got as far as they can by then.
    await Promise.race([twins[1], new Promise((resolve) => setTimeout(resolve, 100))]);
    go();
    const answers = await Promise.all([...twins, receive(await request())].map(answerOf));
    expect(answers.map(({ body }) => body.output)).toEqual([1, 1, 1]);
    // Another lease is another attempt.
    expect((await answerOf(receive(await request({ body: { fence: 2 } })))).body.output).toBe(2);
    expect(runs).toBe(2);
  });

  test("remembers ids for as long as their signatures are good", async () => {
    let now = Date.now();
    const { receive, runs } = adding({ now: () => now });
    const at = Math.floor(now / 1000) + 300;
    await receive(await request({ at }));
    now += 599_000;
    expect((await receive(await request({ at }))).status).toBe(200);
    expect(runs).toHaveLength(1);
    now += 2_000;
    expect((await receive(await request({ at }))).status).toBe(401);
    expect(runs).toHaveLength(1);
  });

  test("asks a store that several instances share, and never runs what another one has", async () => {
    const kept = new Map<string, string | undefined>();
    const store: ReceiveCallOptions["store"] = {
      begin(known) {
        if (kept.has(known)) return { answer: kept.get(known) };
        kept.set(known, undefined);
        return undefined;
      },
      end: (known, answer) => void kept.set(known, answer),
    };
    const [one, other] = [adding({ store }), adding({ store })];
    const first = await answerOf(one.receive(await request()));
    expect(await answerOf(other.receive(await request()))).toEqual(first);
    kept.set(`${id}.7`, undefined);
    const busy = await other.receive(await request({ body: { fence: 7 } }));
    expect([busy.status, busy.headers.get("retry-after")]).toEqual([409, "1"]);
    expect([one.runs.length, other.runs.length]).toEqual([1, 0]);
  });

  test("compares the URL that stands in the body with its own", async () => {
    const elsewhere = "https://other.example/execute";
    const { receive, runs } = adding({ url: [url, "https://second.example/execute"] });
    expect((await receive(await request({ body: { url: elsewhere } }))).status).toBe(421);
    expect((await receive(await request({ body: { url: `${url}/` } }))).status).toBe(421);
    expect((await receive(await request({ body: { url: `${url}?x=1` } }))).status).toBe(421);
    expect(runs).toEqual([]);
    // Behind a proxy the request's own is another.
    expect((await receive(await request({ to: "http://10.0.0.1:8080/execute" }))).status).toBe(200);
    const byRequest = receiveCall({ handlers: [add.handle(() => 1)], keys: key });
    expect((await byRequest(await request())).status).toBe(200);
    expect((await byRequest(await request({ body: { fence: 2 }, to: elsewhere }))).status).toBe(421);
  });

  test("refuses other methods, types and sizes, and what is no call, without running or echoing it", async () => {
    const { receive, runs } = adding({ maxBodyBytes: 2_000 });
    const wrong: [number, Sent][] = [
      [405, { method: "GET" }],
      [415, { headers: { "content-type": "text/plain" } }],
      [415, { headers: { "content-type": "application/jsonp" } }],
      [413, { body: { input: "x".repeat(2_000) } }],
      [400, { body: "{" }],
      [400, { body: "[]" }],
      [400, { body: "null" }],
      [400, { body: { id: "not-a-uuid" } }],
      [400, { body: { id: id.replace("1", "2") } }],
      [400, { body: { name: "" } }],
      [400, { body: { version: 0 } }],
      [400, { body: { attempt: "1" } }],
      [400, { body: { timeoutMs: 0 } }],
      [400, { body: { url: "secret" } }],
      [400, { body: { metadata: [] } }],
      [400, { body: { hook: "success" } }],
      [400, { body: { hook: "failure", input: null } }],
      [400, { body: { parentId: 1 } }],
      [404, { body: { name: "unknown" } }],
      [404, { body: { version: 2 } }],
    ];
    for (const [status, sent] of wrong) {
      const response = await receive(await request(sent));
      const text = await response.text();
      expect(response.status, JSON.stringify(sent)).toBe(status);
      expect(response.headers.get("content-type")).toBe("application/problem+json");
      expect(text).not.toMatch(/secret|not-a-uuid|xxxx/);
    }
    expect(runs).toEqual([]);
  });

  test("counts the bytes of a body that does not say how many it has, and does not wait for one that stalls", async () => {
    const clock = createFakeClock();
    const { receive } = adding({ maxBodyBytes: 2_000, clock });
    const { headers } = await request();
    let pulled = 0;
    const endless = new ReadableStream({
      pull(controller) {
        pulled++;
        controller.enqueue(encode("x".repeat(500)));
      },
    });
    const post = (body: ReadableStream) =>
      receive(new Request(url, { method: "POST", headers, body, duplex: "half" } as RequestInit));
    expect((await post(endless)).status).toBe(413);
    expect(pulled).toBeLessThan(10);
    const stalled = post(new ReadableStream({ start() {} }));
    await clock.advance(10_000);
    expect((await stalled).status).toBe(408);
    expect(clock.pending).toBe(0);
  });

  test("ends an attempt at the caller's timeout, and tells which failures are permanent", async () => {
    const clock = createFakeClock();
    const stuck = receiveCall({ handlers: [add.handle(() => new Promise<never>(() => {}))], keys: key, url, clock });
    const answer = answerOf(stuck(await request()));
    for (let turn = 0; turn < 50 && clock.pending < 1; turn++) await new Promise((resolve) => setTimeout(resolve, 2));
    await clock.advance(10_000);
    for (let turn = 0; turn < 50 && clock.pending < 1; turn++) await new Promise((resolve) => setTimeout(resolve, 2));
    await clock.advance(10_000);
    expect((await answer).body).toMatchObject({ status: "failed", retry: true, error: { code: "timed_out" } });
    const { receive } = adding();
    const invalid = await answerOf(receive(await request({ body: { input: { a: "x" } } })));
    expect(invalid.body).toMatchObject({ status: "failed", retry: false, error: { code: "invalid_input" } });
  });

  test("says of its own troubles nothing but an id, which it reports", async () => {
    const reported: unknown[] = [];
    const store = {
      begin(): never {
        throw new Error("secret of the store");
      },
      end() {},
    };
    const { receive } = adding({ store, observe: (one) => void reported.push(one) });
    const { status, body } = await answerOf(receive(await request()));
    expect(status).toBe(500);
    expect(JSON.stringify(body)).not.toContain("secret");
    const instance = body.instance.replace("urn:uuid:", "");
    expect(reported).toEqual([
      { type: "internal_error", operation: `receiveCall ${instance}`, error: new Error("secret of the store") },
    ]);
  });

  test("is not ended by an async observer that rejects", async () => {
    const rejected: unknown[] = [];
    const hear = (error: unknown): void => void rejected.push(error);
    process.on("unhandledRejection", hear);
    let heard = 0;
    const logging = add.handle(({ input, logger }) => {
      logger.info("adds");
      return input.a + input.b;
    });
    const { receive } = adding({
      handlers: [logging],
      // It passes for one that gives nothing.
      observe: (async () => {
        heard++;
        throw new Error("the log is full");
      }) as () => void,
    });
    expect((await answerOf(receive(await request()))).body).toMatchObject({ status: "succeeded", output: 3 });
    await new Promise((resolve) => setTimeout(resolve, 50));
    process.off("unhandledRejection", hear);
    expect(heard).toBe(1);
    expect(rejected).toEqual([]);
  });

  test("takes middleware that has parts for pushes and events, too, and runs what is laid around attempts", async () => {
    const attempted: unknown[] = [];
    const whole: Middleware = {
      push: async (_, next) => await next(),
      publish: async (_, next) => await next(),
      execute: async (_, next) => void attempted.push(await next()),
    };
    const { receive } = adding({ middleware: [openTelemetry().middleware, whole] });
    expect((await answerOf(receive(await request()))).body).toMatchObject({ status: "succeeded", output: 3 });
    expect(attempted).toEqual([{ kind: "succeeded", output: 3 }]);
  });
});

describe("a caller", () => {
  const idle: Driver = {
    name: "idle",
    query: () => Promise.reject(new Error("No statement is expected")),
    script: () => Promise.reject(new Error("No statement is expected")),
  };
  const orchestrators: { stop(): Promise<void> }[] = [];
  afterAll(() => Promise.all(orchestrators.map((one) => one.stop())));

  /** What one attempt comes to whose call is answered like this. */
  async function outcome(fetch: Fetch, options: { maxAnswerBytes?: number } = {}, handle?: Handler) {
    const handler = handle ?? add.handle(callEndpoint({ url, keys: key, fetch, ...options }));
    const orchestrator = createOrchestrator({ database: idle, handlers: [handler] });
    orchestrators.push(orchestrator);
    return (await orchestrator.execute(add({ a: 1, b: 2 }))).outcome;
  }

  const answering = (body: unknown, init: ResponseInit = {}): Fetch => {
    const text = typeof body === "string" ? body : JSON.stringify(body);
    return async () => new Response([204, 304].includes(init.status ?? 200) ? null : text, init);
  };

  test("makes a call that an endpoint takes", async () => {
    const { receive } = adding();
    const inits: RequestInit[] = [];
    const result = await outcome(async (to, init) => {
      inits.push(init);
      return await receive(new Request(to, init));
    });
    expect(result).toEqual({ status: "succeeded", output: 3 });
    expect(inits[0]?.redirect).toBe("manual");
  });

  test("takes no answer that is none, too large, or follows a redirect", async () => {
    const bad: [string, Fetch][] = [
      ["endpoint_answer", answering("<html>")],
      ["endpoint_answer", answering({ ok: true })],
      ["endpoint_answer", answering({ status: "done" })],
      ["endpoint_answer", answering({ status: "snoozed" })],
      ["endpoint_answer", answering({ status: "snoozed", delayMs: 1, until: "2030-01-01T00:00:00Z" })],
      ["endpoint_answer", answering({ status: "failed", error: { message: 1 } })],
      ["endpoint_answer", answering({ status: "failed", error: {}, retryAfterMs: -1 })],
      ["endpoint_answer", answering({ status: "succeeded", output: 1, followUps: {} })],
      [
        "endpoint_answer",
        answering({ status: "succeeded", output: 1, followUps: Array.from({ length: 1_001 }, () => ({ name: "a" })) }),
      ],
      ["endpoint_answer", answering({ status: "succeeded", output: 3 }, { status: 204 })],
      ["endpoint_answer", answering({ status: "succeeded", output: 3 }, { status: 202 })],
      ["endpoint_answer", answering({ status: "succeeded", output: "x".repeat(327_680) })],
      ["endpoint_redirects", answering("", { status: 302, headers: { location: "http://169.254.169.254/" } })],
      ["endpoint_redirects", answering("", { status: 308 })],
      [
        "endpoint_unreachable",
        () => Promise.reject(new TypeError("fetch failed", { cause: new Error("ECONNREFUSED") })),
      ],
      ["invalid_output", answering({ status: "succeeded", output: "three" })],
    ];
    for (const [code, fetch] of bad) {
      const result = await outcome(fetch);
      expect([result.status, "error" in result && result.error?.code], code).toEqual(["failed", code]);
    }
    const small = await outcome(answering({ status: "succeeded", output: 3, x: "x".repeat(2_000) }), {
      maxAnswerBytes: 1_024,
    });
    expect(small).toMatchObject({
      status: "failed",
      error: { message: "Cannot call endpoint: its answer has more than 1024 bytes" },
    });
  });

  test("stops reading an answer that does not end", async () => {
    let pulled = 0;
    let isCancelled = false;
    const endless = new ReadableStream({
      pull(controller) {
        pulled++;
        controller.enqueue(encode("x".repeat(65_536)));
      },
      cancel() {
        isCancelled = true;
      },
    });
    const result = await outcome(async () => new Response(endless));
    expect(result).toMatchObject({ status: "failed", error: { code: "endpoint_answer" } });
    expect([isCancelled, pulled < 10]).toEqual([true, true]);
  });

  test("takes statuses as permanent, or not, and waits for as long as it is asked", async () => {
    const thrown = async (status: number, headers: Record<string, string> = {}) => {
      const result = await outcome(answering("", { status, headers }));
      if (result.status !== "failed") throw new Error(`It ${result.status}`);
      expect(result.thrown).toBeInstanceOf(EndpointError);
      const error = result.thrown as EndpointError;
      expect(error.status).toBe(status);
      return [error.code, Reflect.get(error, permanent), Reflect.get(error, retryAfterMs)];
    };
    for (const status of [400, 402, 405, 406, 410, 411, 413, 414, 415, 422, 431, 451]) {
      expect(await thrown(status)).toEqual(["endpoint_refuses", true, undefined]);
    }
    for (const status of [401, 403, 404, 408, 409, 421, 425, 429, 500, 502, 503, 504]) {
      expect(await thrown(status)).toEqual(["endpoint_unavailable", false, undefined]);
    }
    expect(await thrown(429, { "retry-after": "30" })).toEqual(["endpoint_unavailable", false, 30_000]);
    const [, , ms] = await thrown(503, { "retry-after": new Date(Date.now() + 60_000).toUTCString() });
    expect(ms).toBeGreaterThan(50_000);
    expect(await thrown(503, { "retry-after": "999999999" })).toEqual(["endpoint_unavailable", false, 86_400_000]);
    for (const nonsense of ["soon", "-1", ""]) {
      expect(await thrown(503, { "retry-after": nonsense })).toEqual(["endpoint_unavailable", false, undefined]);
    }
  });

  test("lets an endpoint choose no id but a new one, and no option out of its limits", async () => {
    for (const followUp of [
      { name: "a", id: "0197a000-0000-4000-8000-000000000001" },
      { name: "a", id: "1" },
      { name: "" },
      { name: 1 },
      { name: "a", queue: "a b" },
      { name: "a", priority: 10 },
      { name: "a", retries: -1 },
      { name: "a", runAt: "soon" },
      { name: "a", delayMs: "1" },
      { name: "a", metadata: "x" },
      { name: "a", input: JSON.parse('{"__proto__":1}') },
    ]) {
      const result = await outcome(answering({ status: "succeeded", output: 3, followUps: [followUp] }));
      expect([result.status, followUp]).toEqual(["failed", followUp]);
    }
  });

  test("is refused for options out of their limits", () => {
    const fetch = answering("");
    const bad: [Record<string, unknown>, RegExp][] = [
      [{ url: "/execute" }, /url must be an absolute URL/],
      [{ url: "http://a.example" }, /url must be https.*allowHttp/],
      [{ url: "ftp://a.example", allowHttp: true }, /url must be https/],
      [{ url: "https://user:secret@a.example" }, /url must be free of a user/],
      [{ keys: "x" }, /a key must be/],
      [{ fetch: undefined }, /fetch must be a function.*guardedFetch/],
      [{ maxAnswerBytes: 1 }, /maxAnswerBytes/],
      [{ maxAnswerBytes: 9_000_000 }, /maxAnswerBytes/],
    ];
    for (const [options, message] of bad) {
      const make = () => callEndpoint({ url, keys: key, fetch, ...options } as never);
      expect(make).toThrow(message);
      expect(make).not.toThrow(/secret/);
    }
    expect(() => callEndpoint({ url: "http://a.example", keys: key, fetch, allowHttp: true })).not.toThrow();
  });
});
