/**
 * What the routes do, asked without a port, on the embedded database; the other files have a server. Waiting and streaming
 * are in sockets.test.ts.
 */

import { Hono } from "hono";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type PgliteDatabase, pglite } from "../../../adapters/pglite.ts";
import { createSite, type Site, tokenOf } from "./site.ts";

const unknownId = "01999f3e-7c1b-7000-8000-3f2a9f0e6d11";

let database: PgliteDatabase;
let site: Site;
const ask: Site["ask"] = (route, options) => site.ask(route, options);

beforeAll(async () => {
  database = await pglite();
  site = createSite(database);
  await site.orchestrator.migrate();
  await site.orchestrator.startWorker({ queues: ["default"] }).started;
});
afterAll(async () => {
  await site[Symbol.asyncDispose]();
  await database.close();
});

/** Pushes a command and answers its id. */
async function pushed(body: object, headers = {}): Promise<string> {
  const { status, json } = await ask("POST /commands", { body, headers });
  expect(status).toBe(202);
  return json.id;
}

const waiting = () => pushed({ name: "wait", input: "here" });

async function finished(body: object): Promise<string> {
  const id = await pushed(body);
  await site.orchestrator.waitFor(id as never, { timeoutMs: 20_000 });
  return id;
}

describe("POST /commands", () => {
  test("pushes a command, whose state and output are where it says", async () => {
    const { status, headers, json } = await ask("POST /commands", { body: { name: "add", input: { a: 1 } } });
    expect(status).toBe(202);
    expect(headers.get("location")).toBe(`commands/${json.id}`);
    expect(json.status).toBe(`commands/${json.id}`);
    await site.orchestrator.waitFor(json.id, { timeoutMs: 20_000 });
    const state = await ask(`GET /${json.status}`);
    expect(state.json).toMatchObject({ id: json.id, name: "add", status: "succeeded", input: { a: 1 } });
    expect((await ask(`GET /${json.status}/output`)).json).toEqual({ sum: 2 });
  });

  test("takes every option of a push, and its actor from the authoriser", async () => {
    const runAt = "2031-01-02T03:04:05.000Z";
    const options = { queue: "other", priority: 2, runAt, timeoutMs: 1_234, retries: 7 };
    const metadata = { correlationId: "c1", source: "shop", colour: "red" };
    const id = await pushed({ name: "wait", version: 1, ...options, metadata });
    const { json } = await ask(`GET /commands/${id}`);
    expect(json).toMatchObject({ queue: "other", priority: 2, dueAt: runAt, timeoutMs: 1_234, retriesLeft: 8 });
    expect(json.metadata).toEqual({ ...metadata, actor: { id: "everything", type: "token" } });
    const later = await pushed({ name: "wait", delayMs: 60_000 });
    expect((await ask(`GET /commands/${later}`)).json.status).toBe("scheduled");
  });

  test.each([
    ["an unknown name", { name: "nobody" }, ["name"]],
    ["an unknown version", { name: "add", version: 9, input: { a: 1 } }, ["version"]],
    ["an invalid input", { name: "add", input: { a: "x", mail: "y" } }, ["input.a", "input.mail"]],
    ["no name", { input: 1 }, ["name"]],
    ["an unknown key", { name: "wait", colour: "red" }, ["colour"]],
    ["an id", { name: "wait", id: unknownId }, ["id"]],
    ["an actor", { name: "wait", metadata: { actor: { id: "root", type: "user" } } }, ["metadata"]],
    ["bad options", { name: "wait", queue: "a b", priority: 10, retries: -1 }, ["queue", "priority", "retries"]],
    ["two times", { name: "wait", delayMs: 1, runAt: "2031-01-02T03:04:05.000Z" }, [""]],
    ["a list", [{ name: "wait" }], ["name", '["0"]']],
  ])("refuses %s by a problem that lists the places", async (_, body, paths) => {
    const { status, json } = await ask("POST /commands", { body });
    expect(status).toBe(422);
    expect(json.type).toBe("urn:orchestratum:problem:invalid");
    expect(json.issues.map(({ path }: { path: string }) => path)).toEqual(paths);
  });

  test("answers the same to a repeat with its Idempotency-Key, and 422 to another input or name", async () => {
    const headers = { "Idempotency-Key": "order-1" };
    const id = await pushed({ name: "wait", input: 1 }, headers);
    expect(await pushed({ name: "wait", input: 1 }, headers)).toBe(id);
    for (const body of [
      { name: "wait", input: 2 },
      { name: "shout", input: 1 },
    ]) {
      const { status, json } = await ask("POST /commands", { body, headers });
      expect([status, json.type]).toEqual([422, "urn:orchestratum:problem:key_reused"]);
    }
    // Another principal's key is another key.
    const other = await ask("POST /commands", { body: { name: "wait", input: 2 }, headers, scope: "push" });
    expect(other.status).toBe(202);
    expect(other.json.id).not.toBe(id);
    const bad = await ask("POST /commands", { body: { name: "wait" }, headers: { "Idempotency-Key": "a b" } });
    expect(bad.status).toBe(400);
  });
});

describe("POST /commands/batch", () => {
  const ndjson = { "Content-Type": "application/x-ndjson" };
  const lines = (text: string) =>
    text
      .trim()
      .split("\n")
      .map((line) => JSON.parse(line));

  test("pushes a list as a whole, or not at all", async () => {
    const good = [
      { name: "wait", input: 1 },
      { name: "wait", input: 2 },
    ];
    const { status, json } = await ask("POST /commands/batch", { body: good });
    expect(status).toBe(202);
    expect(json.commands).toHaveLength(2);
    expect((await ask(`GET /commands/${json.commands[1].id}`)).json.input).toBe(2);

    const { total } = await count();
    const bad = [...good, { name: "add", input: { a: "x" } }, { name: "add" }];
    const refused = await ask("POST /commands/batch", { body: bad });
    expect(refused.status).toBe(422);
    expect(refused.json.issues.map(({ path }: { path: string }) => path)).toEqual(["[2].input.a", "[3].input"]);
    const unknown = await ask("POST /commands/batch", { body: [...good, { name: "nobody" }] });
    expect(unknown.json.issues.map(({ path }: { path: string }) => path)).toEqual(["[2].name"]);
    expect((await count()).total).toBe(total);
  });

  test("a status is relative to the address of the batch, of a list as of lines", async () => {
    const commands = [{ name: "wait" }, { name: "wait" }];
    const list = (await ask("POST /commands/batch", { body: commands })).json.commands;
    const body = commands.map((one) => JSON.stringify(one)).join("\n");
    const answers = lines((await ask("POST /commands/batch", { body, headers: ndjson })).text).slice(0, 2);
    for (const { id, status } of [...list, ...answers]) {
      const { pathname } = new URL(status, "http://jobs.test/commands/batch");
      expect((await ask(`GET ${pathname}`)).json).toMatchObject({ id, status: "pending" });
    }
    expect(list).toHaveLength(2);
    expect(answers).toHaveLength(2);
  });

  const count = async () => {
    const counts = await site.orchestrator.counts();
    return { total: counts.reduce((sum, one) => sum + one.count, 0) };
  };

  test("answers lines one by one, and those before a bad one stay", async () => {
    const body = ['{"name":"wait","input":1}', "{", "", '{"name":"nobody"}', '{"name":"wait","input":2}'].join("\n");
    const { status, text } = await ask("POST /commands/batch", { body, headers: ndjson });
    expect(status).toBe(200);
    const answers = lines(text);
    expect(answers.map(({ line, problem }) => [line, problem?.status])).toEqual([
      [1, undefined],
      [2, 400],
      [4, 422],
      [5, undefined],
      [undefined, undefined],
    ]);
    expect(answers.at(-1)).toEqual({ done: true, accepted: 2, refused: 2 });
    for (const { id } of [answers[0], answers[3]]) expect((await ask(`GET /commands/${id}`)).status).toBe(200);
  });

  test("a line over the limit is refused, and the next one is read", async () => {
    const body = `{"name":"wait","input":"${"x".repeat(400_000)}"}\n{"name":"wait"}`;
    const answers = lines((await ask("POST /commands/batch", { body, headers: ndjson })).text);
    expect(answers.map(({ problem }) => problem?.status)).toEqual([413, undefined, undefined]);
  });

  test("a key makes every place in a batch answer the same again", async () => {
    const headers = { ...ndjson, "Idempotency-Key": "night-1" };
    const body = Array.from({ length: 3 }, (_, index) => JSON.stringify({ name: "wait", input: index })).join("\n");
    const first = lines((await ask("POST /commands/batch", { body, headers })).text);
    const second = lines((await ask("POST /commands/batch", { body, headers })).text);
    expect(second).toEqual(first);
    expect(new Set(first.slice(0, 3).map(({ id }) => id)).size).toBe(3);
    const changed = body.replace('"input":1', '"input":"changed"');
    const third = lines((await ask("POST /commands/batch", { body: changed, headers })).text);
    expect(third.map(({ id, problem }) => id ?? problem?.type)).toEqual([
      first[0].id,
      "urn:orchestratum:problem:key_reused",
      first[2].id,
      undefined,
    ]);
  });
});

describe("GET /commands/:id", () => {
  test("has an ETag that changes with the command, and 304 for the one that is known", async () => {
    const id = await waiting();
    const first = await ask(`GET /commands/${id}`);
    expect(first.headers.get("retry-after")).toBe("1");
    const headers = { "If-None-Match": first.headers.get("etag") as string };
    const same = await ask(`GET /commands/${id}`, { headers });
    expect([same.status, same.text, same.headers.get("retry-after")]).toEqual([304, "", "1"]);
    await site.orchestrator.cancel(id);
    const other = await ask(`GET /commands/${id}`, { headers });
    expect([other.status, other.json.status, other.headers.get("retry-after")]).toEqual([200, "cancelled", null]);
  });

  test("with redirect=true it is 204 until it has finished, and then leads to the output", async () => {
    const id = await waiting();
    const open = await ask(`GET /commands/${id}?redirect=true`);
    expect([open.status, open.headers.get("retry-after")]).toEqual([204, "1"]);
    const done = await finished({ name: "add", input: { a: 4 } });
    const { status, headers } = await ask(`GET /commands/${done}?redirect=true`);
    expect(status).toBe(303);
    const target = new URL(headers.get("location") as string, `http://jobs.test/commands/${done}`).pathname;
    expect((await ask(`GET ${target}`)).json).toEqual({ sum: 5 });
  });

  test("/output is 202 while it has not finished, 204 where there is none, 409 where it failed", async () => {
    const open = await ask(`GET /commands/${await waiting()}/output`);
    expect([open.status, open.json.status, open.headers.get("retry-after")]).toEqual([202, "pending", "1"]);
    const none = await ask(`GET /commands/${await finished({ name: "tidy" })}/output`);
    expect([none.status, none.text]).toEqual([204, ""]);
    const failed = await ask(`GET /commands/${await finished({ name: "shout" })}/output`);
    expect([failed.status, failed.json.outcome, failed.json.error.message]).toEqual([409, "failed", "too loud"]);
  });

  test("what is scheduled is worth asking for when it is due", async () => {
    const id = await pushed({ name: "wait", delayMs: 600_000 });
    const seconds = Number((await ask(`GET /commands/${id}`)).headers.get("retry-after"));
    expect(seconds).toBeGreaterThan(500);
    expect(seconds).toBeLessThanOrEqual(600);
  });

  test("/timeline, /tree and /explain tell of it", async () => {
    const id = await finished({ name: "add", input: { a: 1 } });
    const { json } = await ask(`GET /commands/${id}/timeline`);
    expect(json.entries.map(({ kind }: { kind: string }) => kind)).toEqual(["pushed", "leased", "finished"]);
    expect((await ask(`GET /commands/${id}/tree`)).json).toMatchObject({ root: { id }, count: 1 });
    expect((await ask(`GET /commands/${id}/explain`)).json).toMatchObject({ id, status: "succeeded" });
  });

  test.each(["", "/output", "/timeline", "/tree", "/explain", "/stream"])(
    "…%s is 404 for none, 400 for no id",
    async (path) => {
      expect((await ask(`GET /commands/${unknownId}${path}`)).status).toBe(404);
      expect((await ask(`GET /commands/none${path}`)).status).toBe(400);
    },
  );
});

describe("acts", () => {
  test("cancel and retry, with who did it", async () => {
    const id = await waiting();
    expect((await ask(`POST /commands/${id}/retry`)).status).toBe(409);
    const cancelled = await ask(`POST /commands/${id}/cancel`, { scope: "admin" });
    expect([cancelled.status, cancelled.json]).toEqual([200, { id, result: "cancelled" }]);
    expect((await ask(`POST /commands/${id}/cancel`)).status).toBe(409);
    const retried = await ask(`POST /commands/${id}/retry`, { body: { input: "another" } });
    expect([retried.status, retried.json]).toEqual([202, { id, result: "retried" }]);
    expect((await ask(`GET /commands/${id}`)).json).toMatchObject({ status: "pending", input: "another" });
    const acts = await site.orchestrator.acts({ limit: 2 });
    expect(acts.map(({ kind, by }) => [kind, by])).toEqual([
      ["retry", "everything"],
      ["cancel", "admin"],
    ]);
    for (const act of ["cancel", "retry"]) expect((await ask(`POST /commands/${unknownId}/${act}`)).status).toBe(404);
  });

  test("erase what has finished, and nothing else", async () => {
    const id = await waiting();
    expect((await ask(`POST /commands/${id}/erase`, { scope: "admin" })).status).toBe(409);
    await ask(`POST /commands/${id}/cancel`);
    const erased = await ask(`POST /commands/${id}/erase`, { scope: "admin" });
    expect([erased.status, erased.json]).toEqual([200, { id, result: "erased" }]);
    expect((await ask(`GET /commands/${id}`)).json.input).toBeUndefined();
    expect((await ask(`POST /commands/${unknownId}/erase`)).status).toBe(404);
  });

  test("retry with an input that the schema refuses says where", async () => {
    const id = await finished({ name: "add", input: { a: 1 } });
    const { status, json } = await ask(`POST /commands/${id}/retry`, { body: { input: { a: "x" } } });
    expect([status, json.issues[0].path]).toEqual([422, "input.a"]);
  });

  test("in bulk by a filter, with a dry run that changes nothing", async () => {
    await ask("POST /commands/batch", { body: [1, 2, 3].map((input) => ({ name: "wait", queue: "bulk", input })) });
    const filter = { queue: "bulk", status: ["pending"] };
    const dry = await ask("POST /commands/cancel", { body: { filter, dryRun: true } });
    expect(dry.json).toEqual({ count: 3, busy: 0, dryRun: true });
    expect((await ask("POST /commands/cancel", { body: { filter } })).json).toEqual({
      count: 3,
      busy: 0,
      dryRun: false,
    });
    const from = new Date(Date.now() - 60_000).toISOString();
    const again = { queue: "bulk", status: ["cancelled"], from };
    expect((await ask("POST /commands/retry", { body: { filter: again } })).json.count).toBe(3);
    for (const body of [{}, { filter: {} }, { filter: { colour: "red" } }, { filter: { status: [] } }]) {
      expect((await ask("POST /commands/cancel", { body })).status).toBe(422);
    }
    expect((await ask("POST /commands/cancel", { body: { filter: { status: ["failed"] } } })).status).toBe(422);
  });

  test("a queue is paused and goes on, whatever its name is", async () => {
    for (const name of ["bulk", "a/b?c", "ünï%20", "%41"]) {
      const path = `/queues/${encodeURIComponent(name)}`;
      expect((await ask(`POST ${path}/pause`)).json).toEqual({ queue: name, changed: true });
      expect((await ask(`POST ${path}/pause`)).json.changed).toBe(false);
      const { queues } = (await ask("GET /queues")).json;
      expect(queues.find(({ queue }: { queue: string }) => queue === name)).toMatchObject({
        paused: true,
        pausedBy: "everything",
      });
      expect((await ask(`POST ${path}/resume`)).json).toEqual({ queue: name, changed: true });
    }
  });

  test("a name is paused and goes on, and is listed meanwhile", async () => {
    const pausedAt = expect.stringMatching(/^\d{4}-\d\d-\d\dT.*Z$/);
    for (const name of ["paused", "a/b?c", "ünï%20"]) {
      const path = `/names/${encodeURIComponent(name)}`;
      expect((await ask(`POST ${path}/pause`)).json).toEqual({ name, changed: true });
      const { names } = (await ask("GET /names/paused")).json;
      expect(names).toEqual([{ name, pausedAt, pausedBy: "everything" }]);
      expect((await ask(`POST ${path}/resume`)).json).toEqual({ name, changed: true });
    }
    expect((await ask("GET /names/paused")).json).toEqual({ names: [] });
  });
});

describe("GET /commands", () => {
  test("pages through what a filter chooses, 200 at most", async () => {
    await ask("POST /commands/batch", {
      body: Array.from({ length: 5 }, (_, input) => ({ name: "wait", queue: "paged", input })),
    });
    const seen: string[] = [];
    let cursor: string | undefined;
    do {
      const query = new URLSearchParams({
        queue: "paged",
        status: "pending",
        limit: "2",
        ...(cursor ? { cursor } : {}),
      });
      const { json } = await ask(`GET /commands?${query}`);
      seen.push(...json.commands.map(({ id }: { id: string }) => id));
      cursor = json.cursor;
    } while (cursor);
    expect(new Set(seen).size).toBe(5);
    expect((await ask("GET /commands?status=pending&status=scheduled&limit=200")).status).toBe(200);
    for (const query of [
      "limit=201",
      "limit=0",
      "limit=x",
      "cursor=x",
      "status=late",
      "colour=red",
      "from=today",
      "parentId=1",
    ]) {
      expect((await ask(`GET /commands?${query}`)).status, query).toBe(400);
    }
    const slow = await ask("GET /commands?name=wait");
    expect([slow.status, slow.json.issues]).toEqual([
      400,
      [{ path: "from", message: expect.stringContaining("must be given with name") }],
    ]);
  });
});

describe("what there is", () => {
  test("GET /stats, /workers and the health routes", async () => {
    expect((await ask("GET /workers")).json.workers[0].status).toBe("running");
    const { json } = await ask("GET /stats");
    expect(json.queues.map(({ queue }: { queue: string }) => queue)).toContain("nobody");
    for (const [path, status] of [
      ["live", "live"],
      ["ready", "ready"],
    ]) {
      expect((await ask(`GET /health/${path}`, { scope: null })).json).toEqual({ status });
    }
  });

  test("GET /queues, /stats and /metrics count hook commands where they are asked for", async () => {
    const ids = [await pushed({ name: "wait", queue: "hooked" }), await pushed({ name: "wait", queue: "hooked" })];
    await database.query("update orchestratum.command set hook = 'failure' where id = $1::text::uuid", [
      ids[0] as string,
    ]);
    const pendingIn = async (path: string): Promise<number | undefined> =>
      (await ask(`GET ${path}`)).json.queues.find(({ queue }: { queue: string }) => queue === "hooked")?.pending;
    const counted = async (query: string) => [
      await pendingIn(`/queues${query}`),
      await pendingIn(`/stats${query}`),
      Number(
        /^orchestratum_live_commands\{queue="hooked",status="pending"\} (.*)$/m.exec(
          (await ask(`GET /metrics${query}`)).text,
        )?.[1],
      ),
    ];
    // Figures are shared for a second.
    for (const [query, count] of [
      ["", 1],
      ["?hooks=false", 1],
      ["?hooks=true", 2],
    ] as const)
      await expect.poll(() => counted(query), { timeout: 10_000 }).toEqual([count, count, count]);
    for (const path of ["queues", "stats", "metrics"])
      expect((await ask(`GET /${path}?hooks=yes`)).status, path).toBe(400);
    for (const id of ids) await site.orchestrator.cancel(id);
  });

  test("GET /metrics is Prometheus' text, also with names that need escapes", async () => {
    await ask("POST /commands", { body: { name: "wait", queue: 'q"\\<b>' } });
    // Figures are shared for a second.
    await expect
      .poll(async () => (await ask("GET /metrics")).text, { timeout: 10_000 })
      .toContain('orchestratum_live_commands{queue="q\\"\\\\<b>",status="pending"} 1\n');
    const { text, headers } = await ask("GET /metrics");
    expect(headers.get("content-type")).toBe("text/plain; version=0.0.4; charset=utf-8");
    for (const line of text.trim().split("\n")) {
      expect(line).toMatch(
        /^# (?:HELP|TYPE) \w+ .+$|^\w+\{\w+="(?:[^"\\\n]|\\["\\n])*"(?:,\w+="[^"\\\n]*")*\} -?[\d.e+-]+$/,
      );
    }
    const names = text.match(/^# TYPE \w+/gm) ?? [];
    expect(new Set(names).size).toBe(names.length);
  });

  test("GET /health/ready is 503 where the schema is missing", async () => {
    await using empty = await pglite();
    await using other = createSite(empty);
    expect((await other.ask("GET /health/ready")).status).toBe(503);
    expect((await other.ask("GET /health/live")).status).toBe(200);
  });
});

test("router() mounts at any path and lays nothing around its neighbours", async () => {
  const authorization = `Bearer ${tokenOf("everything")}`;
  for (const path of ["/", "/deep/jobs"]) {
    const app = new Hono();
    app.route(path, site.app);
    app.get("/hello", (c) => c.text("hello"));
    const hello = await app.request("/hello");
    expect([hello.status, hello.headers.get("content-security-policy")]).toEqual([200, null]);
    const base = `http://jobs.test${path.replace(/\/$/, "")}`;
    const headers = { authorization, "content-type": "application/json" };
    const address = `${base}/commands`;
    const answer = await app.request(address, { method: "POST", headers, body: '{"name":"wait"}' });
    expect(answer.status).toBe(202);
    const found = await app.request(new URL(answer.headers.get("location") as string, address).href, { headers });
    expect(found.status).toBe(200);
    const refused = await app.request(address, { method: "POST", headers, body: "{" });
    expect([refused.status, refused.headers.get("content-type")]).toEqual([400, "application/problem+json"]);
    expect(refused.headers.get("x-content-type-options")).toBe("nosniff");
  }
});

test("router() leaves a neighbour's answers alone, also where there is nothing at an address of both", async () => {
  const app = new Hono();
  // Of one method, and yet no route: it stands before the router and hands on.
  app.on("PATCH", "*", async (_, next) => await next());
  app.route("/", site.app);
  app.use(async (_, next) => await next());
  app.put("/commands/:id", (c) => c.json({ mine: c.req.param("id") }, c.req.param("id") === "none" ? 404 : 200));
  for (const [id, status] of [
    ["one", 200],
    ["none", 404],
  ] as const) {
    const answer = await app.request(`/commands/${id}`, { method: "PUT" });
    expect([answer.status, await answer.json()]).toEqual([status, { mine: id }]);
  }
  const refused = await app.request("/commands/one", { method: "PATCH" });
  expect([refused.status, refused.headers.get("allow")]).toEqual([405, "GET, HEAD"]);
});
