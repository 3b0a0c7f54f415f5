/** `orchestratum serve`: routes and worker in one process, as somebody starts it. */

import { type ChildProcess, execFile, spawn } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { defineCommand, defineEvent } from "orchestratum";
import { createClient } from "orchestratum/client";
import { afterAll, afterEach, beforeAll, expect, test } from "vitest";
import { createDatabase, type Database } from "../database.ts";

const main = fileURLToPath(new URL("../../adapters/cli/main.ts", import.meta.url));
const checkout = fileURLToPath(new URL("../..", import.meta.url));
const folder = mkdtempSync(join(tmpdir(), "orchestratum-cli-"));
const { DATABASE_URL: _, ORCHESTRATUM_TOKENS: __, ...inherited } = process.env;
const command = ["--import", import.meta.resolve("tsx"), main];
const token = "a-token-of-more-than-sixteen-characters";

let database: Database;
const children = new Set<ChildProcess>();

beforeAll(async () => {
  database = await createDatabase({ max: 10 });
  const core = JSON.stringify(join(checkout, "src/index.ts"));
  writeFileSync(
    join(folder, "handlers.mjs"),
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
import { postgresJs } from ${JSON.stringify(join(checkout, "adapters/postgres-js.ts"))};
import { tokenAuthoriser } from ${JSON.stringify(join(checkout, "adapters/hono/router.ts"))};
import * as handlers from "./handlers.mjs";
`;
  const made = "createOrchestrator({ database: postgresJs(process.env.APP_DATABASE), handlers })";
  writeFileSync(
    join(folder, "site.mjs"),
    `${orchestrator}export const orchestrator = ${made};
export const authorise = tokenAuthoriser([{ name: "tests", token: ${JSON.stringify(token)}, scopes: ["push", "read"] }]);
`,
  );
  writeFileSync(join(folder, "unsaid.mjs"), `${orchestrator}export default ${made};\n`);
  writeFileSync(join(folder, "wrong.mjs"), `${orchestrator}export default ${made};\nexport const authorise = true;\n`);
});
afterEach(() => {
  for (const child of children) child.kill("SIGKILL");
  children.clear();
});
afterAll(async () => {
  await database.drop();
  rmSync(folder, { recursive: true, force: true });
});

const environment = (env: Record<string, string>) => ({
  ...inherited,
  TSX_TSCONFIG_PATH: join(checkout, "tsconfig.json"),
  APP_DATABASE: database.url,
  ...env,
});

interface Serving {
  readonly url: string;
  readonly child: ChildProcess;
  readonly output: { stdout: string; stderr: string };
  readonly ended: Promise<number | null>;
}

/** Starts it on a port that is free, and resolves when it says where it listens. */
async function serve(args: string[], env: Record<string, string> = {}): Promise<Serving> {
  const child = spawn(process.execPath, [...command, "serve", ...args, "--port", "0"], {
    cwd: folder,
    env: environment(env),
    stdio: ["ignore", "pipe", "pipe"],
  });
  children.add(child);
  const output = { stdout: "", stderr: "" };
  const ended = new Promise<number | null>((resolve) => child.on("close", resolve));
  child.stderr.on("data", (chunk: Buffer) => void (output.stderr += chunk.toString()));
  const url = await new Promise<string>((resolve, reject) => {
    child.stdout.on("data", (chunk: Buffer) => {
      output.stdout += chunk.toString();
      const [, found] = /^Listening at (\S+)$/m.exec(output.stdout) ?? [];
      if (found !== undefined) resolve(found);
    });
    void ended.then((code) => reject(new Error(`It ended with ${code}: ${output.stderr}`)));
  });
  return { url, child, output, ended };
}

const run = (args: string[], env: Record<string, string> = {}) =>
  new Promise<{ code: number; stdout: string; stderr: string }>((resolve) => {
    execFile(process.execPath, [...command, ...args], { cwd: folder, env: environment(env) }, (error, stdout, stderr) =>
      resolve({ code: error === null ? 0 : Number(error.code), stdout, stderr }),
    );
  });

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
  expect(await ended).toBe(0);
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
  expect([await ended, await told.ended]).toEqual([0, 0]);
  expect(output.stderr + told.output.stderr).not.toContain(token);
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
    ...{ code: 1, stdout: "", stderr: expect.stringContaining("EADDRINUSE") },
  });
  taken.close();
});
