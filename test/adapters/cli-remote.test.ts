/** The command line without a database: the same commands over HTTP, each as a process of its own. */

import { writeFileSync } from "node:fs";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { getRequestListener } from "@hono/node-server";
import { Hono } from "hono";
import { createOrchestrator, defineCommand, type Orchestrator } from "orchestratum";
import { router, tokenAuthoriser } from "orchestratum/hono";
import { postgresJs } from "orchestratum/postgres-js";
import * as v from "valibot";
import { afterAll, afterEach, beforeAll, expect, test } from "vitest";
import { createDatabase, type Database } from "../database.ts";
import * as cli from "./cli-process.ts";

/** Every token that was sent to a process: none may show it. */
const token = "a-token-of-more-than-sixteen-characters";
const reader = "a-token-of-one-who-may-only-read";

const onServer = () => ({ ORCHESTRATUM_URL: url, ORCHESTRATUM_TOKEN: token });

async function run(args: string[], { env = onServer(), input = "" }: cli.StartOptions = {}): Promise<cli.Ended> {
  const ended = await cli.run(args, { input, env });
  expect(ended.stdout + ended.stderr).not.toMatch(/a-token-of/);
  return ended;
}

const json = async (args: string[]): Promise<any> => {
  const { code, stdout, stderr } = await run([...args, "--json"]);
  expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
  return JSON.parse(stdout);
};

const unknownId = "01999f3e-7c1b-7000-8000-3f2a9f0e6d11";
const secret = "secret-of-ada";

const mail = { name: "greet", queue: "mail", priority: 2, retries: 0 } as const;
const greet = defineCommand({
  ...mail,
  version: 2,
  input: v.object({ to: v.string(), fail: v.optional(v.boolean()) }),
});
const older = defineCommand({ ...mail, version: 1 });
const never = defineCommand({ name: "never", queue: "nobody" });

let database: Database;
let orchestrator: Orchestrator;
let server: Server;
let url: string;
/** Requests that are answered as if the server were down. */
let troubles = 0;
const requests: string[] = [];

beforeAll(async () => {
  database = await createDatabase({ max: 10 });
  orchestrator = createOrchestrator({
    database: postgresJs(database.sql),
    instance: "ada",
    handlers: [
      greet.handle(({ input }) => {
        if (input.fail) throw new Error("The mailbox is full");
      }),
    ],
    commands: [older, never],
  });
  await orchestrator.startWorker({ queues: ["mail"], concurrency: 7 }).started;
  const app = new Hono();
  const authorise = tokenAuthoriser([
    { name: "tests", token, scopes: ["push", "read", "admin"] },
    { name: "reader", token: reader, scopes: ["read"] },
  ]);
  const routes = router(orchestrator, { authorise });
  app.use("/jobs/*", async (c, next) => {
    requests.push(`${c.req.method} ${c.req.path}`);
    if (troubles === 0) return await next();
    troubles -= 1;
    // Once it is done, and the answer is lost.
    if (troubles % 2 === 0) await next();
    c.res = new Response("down", { status: 502 });
    return undefined;
  });
  app.route("/jobs", routes);
  app.get("/page/*", (c) => c.html("<!doctype html>"));
  server = createServer((request, response) => void getRequestListener(app.fetch)(request, response));
  server.listen(0, "127.0.0.1");
  await new Promise((resolve) => server.once("listening", resolve));
  url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/jobs`;
});
afterEach(() => expect(troubles).toBe(0));
afterAll(async () => {
  await orchestrator.stop();
  server.closeAllConnections();
  server.close();
  await database.drop();
});

const named = async (name: string): Promise<number> =>
  Number((await database.sql`select count(*) from orchestratum.all_commands where name = ${name}`)[0]?.count);

test("push leaves the defaults and the version to the server, and sends what was said", async () => {
  const { id } = await json(["push", "greet", '{"to": "Ada"}', "--delay-ms", "3600000"]);
  expect(await orchestrator.get(id)).toMatchObject({
    ...{ name: "greet", version: 2, queue: "mail", priority: 2, retriesLeft: 1, input: { to: "Ada" } },
    ...{ status: "scheduled", metadata: { actor: { id: "tests" } } },
  });
  const options = ["--queue", "other", "--priority", "0", "--retries", "7", "--timeout-ms", "5", "--version", "1"];
  const other = await json(["push", "greet", "--run-at", "2d", ...options]);
  expect(await orchestrator.get(other.id)).toMatchObject({
    ...{ queue: "other", priority: 0, retriesLeft: 8, timeoutMs: 5, version: 1, input: undefined, status: "scheduled" },
  });
});

test("push is refused by the server's schema, and for a name that it does not know", async () => {
  const wrong = await run(["push", "greet", JSON.stringify({ to: 7, secret })]);
  expect(wrong).toMatchObject({ code: 2, stdout: "", stderr: expect.stringContaining("input.to: ") });
  const gret = await run(["push", "gret", "{}"]);
  expect(gret).toMatchObject({ code: 2, stderr: expect.stringContaining("name: is not known here") });
  expect(wrong.stderr + gret.stderr).not.toContain(secret);
});

test("push --wait ends as the command does, without its payload", async () => {
  const good = await run(["push", "greet", JSON.stringify({ to: secret }), "--wait"]);
  expect(good).toMatchObject({ code: 0, stdout: expect.stringMatching(/^[0-9a-f-]{36} succeeded\n$/) });
  const bad = await run(["push", "greet", JSON.stringify({ to: secret, fail: true }), "--wait"]);
  expect(bad).toMatchObject({ code: 4, stdout: expect.stringMatching(/ failed: error: The mailbox is full\n$/) });
  const late = await run(["push", "never", "--wait-ms", "50"]);
  expect(late).toMatchObject({ code: 5, stderr: expect.stringContaining("has not ended within 50 ms") });
  expect(good.stdout + bad.stdout + bad.stderr).not.toContain(secret);
});

test("push is repeated while the server has trouble, and pushes once", async () => {
  const before = await named("never");
  troubles = 3;
  expect(await run(["push", "never", "1"])).toMatchObject({ code: 0, stderr: "" });
  expect(await named("never")).toBe(before + 1);
});

test("push --key pushes once however often it is run, one command or many", async () => {
  const keyed = ["push", "never", '{"build": 4711}', "--key", "deploy-4711"];
  const first = await run(keyed);
  expect(await run(keyed)).toEqual(first);
  const other = await run(["push", "never", '{"build": 1}', "--key", "deploy-4711"]);
  expect(other).toMatchObject({ code: 1, stderr: expect.stringContaining("with this key before") });
  const many = ["push", "never", "-", "--many", "--json", "--key", "nightly"];
  const input = '{"n": 1}\n{"n": 2}\n';
  const all = await run(many, { input });
  expect(all.stdout.trim().split("\n")).toHaveLength(2);
  expect(await run(many, { input })).toEqual(all);
});

test("push --many pushes a command a line, tells of the refused ones, and does not let them keep the others out", async () => {
  const lines = Array.from({ length: 1_200 }, (_, number) => JSON.stringify({ to: `${number}` }));
  troubles = 3;
  writeFileSync(join(cli.folder, "lines.ndjson"), `${lines.join("\n")}\n\n`);
  const options = ["--queue", "bulk", "--retries", "1"];
  expect(await run(["push", "greet", "--file", "lines.ndjson", "--many", ...options])).toMatchObject({
    ...{ code: 0, stdout: "Pushed 1,200 commands\n", stderr: "" },
  });
  expect(await orchestrator.counts({ finished: false })).toContainEqual({
    ...{ queue: "bulk", status: "pending", count: 1_200 },
  });
  const some = ["", lines[0], JSON.stringify({ to: 7, secret }), lines[1]].join("\n");
  const partly = await run(["push", "greet", "-", "--many", ...options], { input: some });
  expect(partly).toMatchObject({ code: 5, stdout: "Pushed 2 commands\n" });
  expect(partly.stderr).toMatch(/^Line 3 of standard input was refused: .*input\.to: .*\n$/);
  const shown = await run(["push", "greet", "-", "--many", "--json", ...options], { input: some });
  expect(
    shown.stdout
      .trim()
      .split("\n")
      .map((line) => Object.keys(JSON.parse(line))),
  ).toEqual([["id"], ["line", "problem"], ["id"]]);
  expect(partly.stderr + shown.stdout + shown.stderr).not.toContain(secret);
  const none = await run(["push", "greet", "-", "--many"], { input: "{}" });
  expect(none).toMatchObject({ code: 1, stdout: "Pushed 0 commands\n" });
  const broken = await run(["push", "greet", "-", "--many", ...options], { input: [...lines, "{oops"].join("\n") });
  expect(broken.code).toBe(5);
  expect(broken.stderr).toContain("line 1201 of standard input must be JSON");
  expect(broken.stderr).toContain("1,000 commands of lines 1 to 1000 were pushed before; go on with line 1001");
});

test("status, timeline and explain show the same as on the database", async () => {
  const { id } = await orchestrator.push(greet({ to: secret, fail: true }));
  await orchestrator.waitFor(id);
  const onDatabase = { DATABASE_URL: database.url };
  for (const [name, code] of [
    ["status", 4],
    ["timeline", 0],
    ["explain", 0],
  ] as const) {
    for (const more of [[], ["--json"]]) {
      const far = await run([name, id, ...more]);
      expect({ name, code: far.code }).toEqual({ name, code });
      expect(sorted(far, more)).toEqual(sorted(await run([name, id, ...more], { env: onDatabase }), more));
    }
    expect(await run([name, unknownId])).toMatchObject({ code: 3, stdout: "" });
  }
  expect((await run(["status", id])).stdout).toContain(secret);
  expect(await run(["status", id, "--wait"])).toMatchObject({ code: 4, stdout: expect.stringContaining(" failed: ") });
});

/** Documents as values: the order of their properties says nothing. */
const sorted = ({ stdout, stderr, code }: cli.Ended, more: string[]) =>
  more.length > 0 ? { document: JSON.parse(stdout), stderr, code } : { stdout, stderr, code };

test("list goes from page to page, also where one takes several requests", async () => {
  await orchestrator.push(Array.from({ length: 450 }, () => never(undefined, { queue: "paged" })));
  const filter = ["list", "--queue", "paged", "--status", "pending,running"];
  const first = await json([...filter, "--limit", "420"]);
  expect(first.commands).toHaveLength(420);
  const second = await json([...filter, "--limit", "420", "--cursor", first.cursor]);
  const ids = [...first.commands, ...second.commands].map(({ id }: { id: string }) => id);
  expect(new Set(ids).size).toBe(450);
  expect(second).not.toHaveProperty("cursor");
  expect((await json(filter)).commands).toHaveLength(100);
  expect((await run([...filter, "--limit", "1"])).stdout).toMatch(/^id +name +queue +status[^]*\nMore: --cursor /);
  expect(await run([...filter, "--cursor", "abc"])).toMatchObject({ code: 2 });
});

test("cancel and retry take ids, or a filter, and the record names the token's principal", async () => {
  const [one, two] = await orchestrator.push([1, 2, 3].map(() => never(undefined, { queue: "idle" })));
  const mixed = await run(["cancel", one?.id ?? "", unknownId, "--json"]);
  expect(mixed.code).toBe(5);
  expect(JSON.parse(mixed.stdout).results).toEqual({ [one?.id ?? ""]: "cancelled", [unknownId]: "unknown" });
  expect(await run(["cancel", one?.id ?? ""])).toMatchObject({ code: 5, stdout: expect.stringContaining("finished") });
  expect((await run(["cancel", unknownId])).code).toBe(3);
  expect(await run(["cancel", "--queue", "idle", "--dry-run"])).toMatchObject({ stdout: "Would cancel 2 commands\n" });
  expect(await json(["cancel", "--queue", "idle"])).toEqual({ count: 2, busy: 0 });
  expect(await json(["retry", two?.id ?? ""])).toEqual({ results: { [two?.id ?? ""]: "retried" } });
  expect(await run(["retry", two?.id ?? ""])).toMatchObject({ code: 5, stdout: expect.stringContaining("unfinished") });
  const failed = await orchestrator.push(greet({ to: "x", fail: true }, { metadata: { correlationId: "order-1" } }));
  await orchestrator.waitFor(failed.id);
  expect(await run(["retry", "--correlation", "order-1", "--dry-run"])).toMatchObject({
    stdout: "Would retry 1 command\n",
  });
  expect(await run(["erase", failed.id, "--yes"])).toMatchObject({ code: 0 });
  expect(await run(["retry", failed.id])).toMatchObject({ code: 5, stdout: expect.stringContaining("erased") });
  expect(await json(["retry", failed.id, "--input", '{"to": "Ada"}'])).toEqual({ results: { [failed.id]: "retried" } });
  expect(await orchestrator.waitFor(failed.id)).toMatchObject({ status: "succeeded" });
  const acts = await orchestrator.acts();
  expect(acts).toContainEqual(expect.objectContaining({ by: "tests", kind: "cancel", affected: 1 }));
});

test("what somebody has locked is busy", async () => {
  const { id } = await orchestrator.push(never());
  await database.sql.begin(async (transaction) => {
    await transaction`select 1 from orchestratum.command where id = ${id} for update`;
    expect(await run(["cancel", id])).toMatchObject({ code: 5, stdout: expect.stringContaining("busy") });
  });
});

test("pause and resume take a queue or a name, and queues, stats and workers show how it goes", async () => {
  expect(await run(["pause", "mail"])).toMatchObject({ code: 0, stdout: "Paused queue mail\n" });
  expect((await run(["queues"])).stdout).toMatch(/^mail .*since \S+ \S+ by tests$/m);
  expect(await json(["resume", "mail"])).toEqual({ queue: "mail", paused: false, changed: true });
  expect(await run(["pause", "--name", "a/b c"])).toMatchObject({ code: 0, stdout: "Paused name a/b c\n" });
  expect(await run(["pause", "--name", "a/b c"])).toMatchObject({ stdout: "Name a/b c was paused already\n" });
  expect((await run(["queues"])).stdout).toMatch(/^a\/b c .*since \S+ \S+ by tests$/m);
  expect(await json(["resume", "--name", "a/b c"])).toEqual({ name: "a/b c", paused: false, changed: true });
  expect((await run(["stats"])).stdout).toMatch(/^queue +scheduled/m);
  const { stdout } = await run(["workers"]);
  expect(stdout).toMatch(/^ada-\S+ +running +\d+ +7 .* mail,ada /m);
  expect(stdout).toMatch(/^retention .* ago /m);
});

test("tail shows what ends, over HTTP and on the database, from a time on", async () => {
  const before = await orchestrator.push(greet({ to: secret }));
  await orchestrator.waitFor(before.id);
  const ways: [string[], Record<string, string> | undefined][] = [
    [[], undefined],
    [[], { DATABASE_URL: database.url }],
  ];
  for (const [args, env] of ways) {
    const tail = ["tail", "--since", "1h", "--queue", "mail", ...args];
    const { child, output, ended } = cli.start(tail, { env: env ?? onServer() });
    const seen = (text: string) => expect.poll(() => output.stdout, { timeout: 20_000 }).toContain(text);
    await seen(before.id);
    const { id } = await orchestrator.push(greet({ to: secret, fail: true }));
    await seen(id);
    child.kill("SIGTERM");
    const { stdout: shown, stderr: failed } = await ended;
    expect(shown).toMatch(
      new RegExp(`^\\S+ \\S+Z {2}failed {5}${id} {2}greet {2}mail {2}[\\d.]+ ms {2}error: The mailbox is full$`, "m"),
    );
    expect(shown.match(new RegExp(before.id, "g"))).toHaveLength(1);
    expect(shown).not.toContain("nobody");
    expect(shown + failed).not.toContain(secret);
    expect(failed).toBe("");
  }
});

test("tail ends when nobody reads on, and prints documents with --json", async () => {
  // It writes again only when something ends.
  const timer = setInterval(() => void orchestrator.push(greet({ to: "x" })), 500);
  const words = ["bash", "-c", `"$@" tail --since 1h --json | head -n 1`, "bash", ...cli.command];
  const { stdout, code } = await cli.run([], { words, env: onServer() });
  clearInterval(timer);
  expect(code).toBe(0);
  expect(JSON.parse(stdout)).toMatchObject({ id: expect.any(String), finishedAt: expect.any(String) });
});

test("a token that may not, or is not known, is told of with the way out", async () => {
  const env = { ORCHESTRATUM_URL: url, ORCHESTRATUM_TOKEN: reader };
  expect(await run(["queues"], { env })).toMatchObject({ code: 0 });
  expect(await run(["pause", "mail"], { env })).toMatchObject({
    ...{ code: 1, stderr: expect.stringContaining('It needs the scope "admin"') },
  });
  for (const args of [[], ["--token", `${token}x`]]) {
    expect(await run(["queues", "--url", url, ...args], { env: {} })).toMatchObject({
      ...{ code: 1, stdout: "", stderr: expect.stringMatching(/401 .*: pass --token, or set ORCHESTRATUM_TOKEN\n$/) },
    });
  }
  expect(await run(["queues", "--url", url, "--token", token], { env: {} })).toMatchObject({ code: 0 });
});

test("a database that is named counts before the address of the environment, and that before its database", async () => {
  await using other = await createDatabase();
  const env = { ORCHESTRATUM_URL: url, ORCHESTRATUM_TOKEN: token };
  expect((await run(["queues"], { env: { ...env, DATABASE_URL: other.url } })).stdout).toContain("bulk");
  expect((await run(["queues", "--database", other.url], { env })).stdout).toBe("No queues\n");
  const overridden = await run(["queues", "--url", url, "--token", token], { env: { DATABASE_URL: other.url } });
  expect(overridden.stdout).toContain("bulk");
});

test("an address where there is no router is told of, and is not taken for one where nothing is", async () => {
  const env = { ORCHESTRATUM_TOKEN: token };
  const origin = new URL(url).origin;
  expect(await run(["status", unknownId, "--url", origin], { env })).toMatchObject({
    ...{ code: 1, stderr: expect.stringContaining("404") },
  });
  for (const args of [["queues"], ["status", unknownId]]) {
    expect(await run([...args, "--url", `${origin}/page`], { env })).toMatchObject({
      ...{ code: 1, stderr: expect.stringContaining("the answer is not JSON; is a router mounted at this address?") },
    });
  }
  const nobody = await run(["cancel", unknownId, "--url", "http://127.0.0.1:1/jobs"], { env });
  expect(nobody).toMatchObject({ code: 1, stderr: expect.stringContaining("127.0.0.1:1 did not answer") });
});

const both = ["--database", "postgres://localhost/none", "--url", "http://localhost"];

test.each<[string[], string, Record<string, string>?]>([
  [["queues", ...both], "--database and --url are given, of which it can have one"],
  [["queues"], "say which by --database or DATABASE_URL, or by --url or ORCHESTRATUM_URL", {}],
  [["queues", "--url", "jobs"], 'url must be an absolute http or https address, got "jobs"'],
  [["queues", "--url", `https://ada:${secret}@example.com`], "it must have no user and password in it"],
  [["queues", "--token", `${token}\n`], "it must be visible characters of ASCII"],
  [["queues", "--schema", "jobs"], "Cannot take --schema here: the server has a schema of its own"],
  [["cancel", unknownId, "--by", "Ada"], "Cannot take --by here: the server records whose token it is"],
  [["push", "greet", "{}", "--id", unknownId], "the server makes ids; with --key a push can be repeated"],
  [["push", "greet", "{}", "--key", ""], "--key must have 1 to 200 visible characters of ASCII"],
  [["push", "greet", "--key", "a", ...both.slice(0, 2)], "Cannot take --key here: it is for pushes over HTTP"],
  [["queues", "--token", token, ...both.slice(0, 2)], "Cannot take --token here: it is for --url"],
  [
    ["doctor", "--url", "http://localhost"],
    'Cannot examine the database: there is no option "--url", since this is not',
  ],
  [["work", "x.js", "--url", "http://localhost"], "Cannot work: there is no option"],
  [["sql", "--url", "http://localhost"], "since this is not done over HTTP"],
  [["migrate"], "Cannot open a database: neither --database nor DATABASE_URL says which; this is not done over HTTP"],
  [["doctor"], "this is not done over HTTP, so ORCHESTRATUM_URL does not count"],
  [["tail", "--since", "soon"], "--since must be a time"],
])("orchestratum %j is misuse: exit code 2 and the way out", async (args, reason, env) => {
  requests.length = 0;
  const { code, stdout, stderr } = await run(args, env ? { env } : {});
  expect({ code, stdout }).toEqual({ code: 2, stdout: "" });
  expect(stderr).toContain(reason);
  expect(stderr).toContain("--help says more.");
  expect(stderr).not.toContain(secret);
  expect(requests).toEqual([]);
});
