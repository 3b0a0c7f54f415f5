/** `orchestratum serve`: routes and worker in one process, as somebody starts it. */

import { writeFileSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { defineCommand, defineEvent } from "orchestratum";
import { createClient } from "orchestratum/client";
import { Webhook } from "standardwebhooks";
import { afterAll, beforeAll, expect, test } from "vitest";
import { createDatabase, type Database } from "../database.ts";
import * as cli from "./cli-process.ts";

const token = "a-token-of-more-than-sixteen-characters";
const tickKey = `whsec_${btoa("k".repeat(32))}`;

let database: Database;

beforeAll(async () => {
  database = await createDatabase({ max: 10 });
  const core = JSON.stringify(join(cli.checkout, "src/index.ts"));
  writeFileSync(
    join(cli.folder, "handlers.mjs"),
    `import { defineCommand, defineEvent } from ${core};
export const greeting = defineCommand({ name: "greet" }).handle(() => {});
export const slow = defineCommand({ name: "slow" }).handle(async ({ signal }) => {
  await new Promise((resolve) => {
    const timer = setTimeout(resolve, 60_000);
    signal.addEventListener("abort", () => (clearTimeout(timer), resolve()), { once: true });
  });
});
export const happened = defineEvent({ topic: "tests.happened" });
`,
  );
  const orchestrator = `import { createOrchestrator } from ${core};
import { postgresJs } from ${JSON.stringify(join(cli.checkout, "adapters/postgres-js.ts"))};
import { tokenAuthoriser } from ${JSON.stringify(join(cli.checkout, "adapters/hono/router.ts"))};
import * as handlers from "./handlers.mjs";
`;
  const made = "createOrchestrator({ database: postgresJs(process.env.APP_DATABASE), handlers })";
  writeFileSync(
    join(cli.folder, "site.mjs"),
    `${orchestrator}export const orchestrator = ${made};
export const authorise = tokenAuthoriser([{ name: "tests", token: ${JSON.stringify(token)}, scopes: ["push", "read"] }]);
export const tickKeys = ${JSON.stringify(tickKey)};
`,
  );
  writeFileSync(join(cli.folder, "unsaid.mjs"), `${orchestrator}export default ${made};\n`);
  writeFileSync(
    join(cli.folder, "wrong.mjs"),
    `${orchestrator}export default ${made};\nexport const authorise = true;\n`,
  );
});
afterAll(() => database.drop());

/** Its modules import the sources. */
const words = cli.commandOfSources;

const environment = (env: Record<string, string>) => ({ APP_DATABASE: database.url, ...env });

interface Serving extends cli.Started {
  readonly url: string;
}

/** Starts it on a port that is free, and resolves when it says where it listens. */
async function serve(args: string[], env: Record<string, string> = {}): Promise<Serving> {
  const started = cli.start(["serve", ...args, "--port", "0"], { env: environment(env), words });
  const { child, output, ended } = started;
  const url = await new Promise<string>((resolve, reject) => {
    child.stdout.on("data", () => {
      const [, found] = /^Listening at (\S+)$/m.exec(output.stdout) ?? [];
      if (found !== undefined) resolve(found);
    });
    void ended.then(({ code }) => reject(new Error(`It ended with ${code}: ${output.stderr}`)));
  });
  return { ...started, url };
}

const run = (args: string[], env: Record<string, string> = {}) =>
  cli.run(args, { env: environment(env), ...(args[0] === "serve" ? { words } : {}) });

const statusOf = async (url: string, init?: RequestInit): Promise<number> => (await fetch(url, init)).status;

test("serve runs the routes and a worker of a module that says who may do what, and drains at a signal", async () => {
  const { url, child, output, ended } = await serve(["site.mjs", "--grace-ms", "30000"]);
  expect(url).toMatch(/^http:\/\/127\.0\.0\.1:\d+$/);
  expect(await statusOf(`${url}/health/live`)).toBe(200);
  expect(await statusOf(`${url}/health/ready`)).toBe(200);
  expect(await statusOf(`${url}/queues`)).toBe(401);
  const pushed = await run(["push", "greet", "{}", "--wait", "--url", url], { ORCHESTRATUM_TOKEN: token });
  expect(pushed).toMatchObject({ code: 0, stdout: expect.stringMatching(/ succeeded\n$/) });

  const client = createClient({ url, token });
  const { id } = await client.push(defineCommand({ name: "slow" })());
  for await (const { status } of client.progress(id)) if (status === "running") break;
  child.kill("SIGTERM");
  await expect.poll(() => statusOf(`${url}/health/ready`)).toBe(503);
  expect(await statusOf(`${url}/health/live`)).toBe(200);
  child.kill("SIGTERM");
  expect((await ended).code).toBe(0);
  expect(output.stderr).toMatch(/ worker_stopped /);
  expect(output.stdout + output.stderr).not.toContain(token);
});

test("serve takes handlers and a database, tokens from the environment, and runs without a worker", async () => {
  await using empty = await createDatabase({ migrated: false });
  const tokens = `shop:push+read:${token}, ops:admin:${token}=`;
  const args = [
    "handlers.mjs",
    "--database",
    empty.url,
    "--migrate",
    "--no-worker",
    "--hosts",
    "jobs.example.com,[::1]",
  ];
  const { url, child, ended, output } = await serve(args, { ORCHESTRATUM_TOKENS: tokens });
  const client = createClient({ url, token });
  await expect(client.queues()).rejects.toThrow("421");
  const told = await serve(args.slice(0, -2), {
    ORCHESTRATUM_TOKENS: JSON.stringify([{ name: "a", token, scopes: ["push", "read"] }]),
  });
  const other = createClient({ url: told.url, token });
  const { id } = await other.push(defineCommand({ name: "greet" })());
  await expect(other.waitFor(id, { timeoutMs: 500 })).rejects.toThrow("has not ended");
  expect(await other.workerList()).toEqual([]);
  await other.publish(defineEvent({ topic: "tests.happened" })());
  await expect(other.cancel(id)).rejects.toThrow("403");
  for (const signalled of [child, told.child]) signalled.kill("SIGINT");
  for (const { code } of [await ended, await told.ended]) expect(code).toBe(0);
  expect(output.stderr + told.output.stderr).not.toContain(token);
});

test("serve lets in ticks that are signed by a key which the module exports", async () => {
  const { url, child, ended } = await serve(["site.mjs", "--no-worker"]);
  const { id } = await createClient({ url, token }).push(defineCommand({ name: "greet" })());
  const at = new Date();
  const body = '{"maxMs":10000}';
  const tick = (signature: string) =>
    fetch(`${url}/tick`, {
      method: "POST",
      headers: {
        "Content-Type": "application/json",
        "webhook-id": "tick-1",
        "webhook-timestamp": String(Math.floor(at.getTime() / 1_000)),
        "webhook-signature": signature,
      },
      body,
    });
  expect((await tick(new Webhook(btoa("s".repeat(32))).sign("tick-1", at, body))).status).toBe(401);
  expect((await tick(new Webhook(tickKey).sign("tick-1", at, body))).status).toBe(200);
  expect(await createClient({ url, token }).get(id)).toMatchObject({ status: "succeeded" });
  child.kill("SIGTERM");
  expect((await ended).code).toBe(0);
});

test.each<[string[], string, Record<string, string>]>([
  [["unsaid.mjs"], "nobody says who may do what: export authorise = tokenAuthoriser([…])", {}],
  [["unsaid.mjs"], "or set ORCHESTRATUM_TOKENS=name:push+read:token", { ORCHESTRATUM_TOKENS: "" }],
  [["wrong.mjs"], "the module's export authorise must be a function", { ORCHESTRATUM_TOKENS: `a:read:${token}` }],
  [["unsaid.mjs"], "entry 1 of ORCHESTRATUM_TOKENS must be name:scopes:token", { ORCHESTRATUM_TOKENS: token }],
  [["unsaid.mjs"], "entry 2 of ORCHESTRATUM_TOKENS", { ORCHESTRATUM_TOKENS: `a:read:${token},${token}:read` }],
  [["unsaid.mjs"], "must have scopes of push, read, process, admin", { ORCHESTRATUM_TOKENS: `a:${token}:read` }],
  [["unsaid.mjs"], "must have a token of 16 to 1,024", { ORCHESTRATUM_TOKENS: `${token}:read:short` }],
  [["unsaid.mjs"], "has a token twice", { ORCHESTRATUM_TOKENS: `a:read:${token},b:read:${token}` }],
  [["unsaid.mjs"], "begins as a JSON list, and is none", { ORCHESTRATUM_TOKENS: `[{"token":"${token}"` }],
  [["unsaid.mjs", "--port", "65536"], "--port must be an integer from 0 to 65535", {}],
  [["unsaid.mjs", "--hosts", ","], "hosts must be a list of at least one", { ORCHESTRATUM_TOKENS: `a:read:${token}` }],
  [[], "one module or folder is wanted, got 0", {}],
])("serve %j refuses to start, and says the way out: %s", async (args, reason, env) => {
  const { code, stdout, stderr } = await run(["serve", ...args], env);
  expect({ code, stdout }).toEqual({ code: 2, stdout: "" });
  expect(stderr).toContain(`Cannot ${args.includes("--hosts") ? "mount the router" : "serve"}: `);
  expect(stderr).toContain(reason);
  expect(stderr).not.toContain(token);
});

test("serve fails where the port is taken", async () => {
  const taken = createServer().listen(0, "127.0.0.1");
  await new Promise((resolve) => taken.once("listening", resolve));
  const port = String((taken.address() as AddressInfo).port);
  expect(await run(["serve", "site.mjs", "--port", port])).toMatchObject({
    ...{ code: 1, stdout: "" },
    stderr: expect.stringContaining(
      `Cannot listen on 127.0.0.1:${port}: the port is in use; choose another with --port`,
    ),
  });
  taken.close();
});
