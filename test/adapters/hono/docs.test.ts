/** docs/http.md: its table of scopes, its commands for a shell, and that no option or problem is missing. */

import { execFile } from "node:child_process";
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { serve } from "@hono/node-server";
import * as v from "valibot";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { problemTitles } from "../../../adapters/hono/problem.ts";
import { router } from "../../../adapters/hono/router.ts";
import { createOrchestrator, defineCommand, type Orchestrator } from "../../../src/index.ts";
import { authorise, everything, openSite, placed, tokenOf } from "./site.ts";

const execute = promisify(execFile);
const read = (path: string) => readFileSync(fileURLToPath(new URL(`../../../${path}`, import.meta.url)), "utf8");
const text = read("docs/http.md");

let site: Awaited<ReturnType<typeof openSite>>;
beforeAll(async () => {
  site = await openSite();
});
afterAll(() => site[Symbol.asyncDispose]());

describe("the table of scopes", () => {
  const rows = Array.from(
    text.matchAll(/^\| `((?:GET|POST|DELETE) \/\S*)` +\| (?:`(\w+)`|(none|signature)) +\|/gm),
    ([, route, scope, guard]) => [route as string, (scope ?? guard) as string] as const,
  );

  test("has every route of the app, and no other", () => {
    const own = site.app.routes.filter(({ method }) => method !== "ALL");
    const routes = new Set(own.map(({ method, path }) => `${method} ${path}`));
    expect(rows.map(([route]) => route).toSorted()).toEqual([...routes].toSorted());
    expect(rows.length).toBeGreaterThan(20);
  });

  test.each(rows)("%s lets in scope %s and no other", async (route, scope) => {
    const path = route.replace(":id", "01999f3e-7c1b-7000-8000-3f2a9f0e6d11").replaceAll(/:\w+/g, "some");
    const statusOf = async (as: string | null) => {
      const controller = new AbortController();
      // Of no use to anybody, but past the guards. A stream is only begun.
      const response = await site.app.request(
        site.request(path, { scope: as, signal: controller.signal, ...(path.startsWith("GET") ? {} : { body: "[" }) }),
      );
      await response.body?.cancel();
      return response.status;
    };
    if (scope === "none" || scope === "signature") {
      expect(await statusOf(null)).toBe(scope === "none" ? 200 : 401);
      return;
    }
    expect(everything).toContain(scope);
    expect(await statusOf(null)).toBe(401);
    for (const other of everything) {
      const status = await statusOf(other);
      if (other === scope) expect([401, 403], `${status}`).not.toContain(status);
      else expect(status).toBe(403);
    }
  });
});

test("everything of RouterOptions is in the table of options, with its default", () => {
  const sources = ["router.ts", "openapi.ts"].map((file) => read(`adapters/hono/${file}`)).join("\n");
  const bodies = ["RouterOptions", "DescriptionOptions"].map((name) => {
    const start = sources.search(new RegExp(`^export interface ${name}\\b`, "m"));
    return sources.slice(start, sources.indexOf("\n}\n", start));
  });
  const options = Array.from(
    bodies.join("\n").matchAll(/\/\*\*((?:(?!\*\/)[^])*)\*\/\s*readonly (\w+)\??:/g),
    ([, comment = "", key]) => ({ key, preset: /@default ([^\n]*?) ?\*?$/m.exec(comment)?.[1] }),
  );
  expect(options.length).toBeGreaterThan(4);
  for (const { key, preset } of options) {
    const [, cell] = new RegExp(`^\\| \`${key}\` +\\| (.*?) +\\|`, "m").exec(text) ?? [];
    expect(cell, key).toBeDefined();
    if (preset !== undefined) expect(cell?.replaceAll("`", ""), key).toBe(preset);
  }
});

test("every kind of problem is in its table", () => {
  const kinds = Array.from(text.matchAll(/^\| `(\w+)` +\| [\d, ]+ +\|/gm), ([, kind]) => kind);
  expect(kinds.toSorted()).toEqual(Object.keys(problemTitles).toSorted());
});

describe("its commands for a shell", () => {
  const blocks = [text, read("README.md")]
    .flatMap((page) => Array.from(page.matchAll(/^```sh\n([^]*?)^```$/gm), ([, code]) => code as string))
    .filter((code) => /\bcurl\b/.test(code));
  let server: ReturnType<typeof serve>;
  let orchestrator: Orchestrator;
  let url: string;
  let id: string;

  beforeAll(async () => {
    const add = defineCommand({ name: "add", input: v.object({ a: v.number(), b: v.number() }), output: v.number() });
    orchestrator = createOrchestrator({
      database: site.driver,
      handlers: [add.handle(({ input }) => input.a + input.b)],
    });
    await orchestrator.startWorker().started;
    ({ id } = await orchestrator.push(add({ a: 3, b: 4 })));
    const app = router(orchestrator, { authorise, events: [placed] });
    url = await new Promise((resolve) => {
      server = serve({ fetch: app.fetch, port: 0, hostname: "127.0.0.1" }, ({ port }) =>
        resolve(`http://127.0.0.1:${port}`),
      );
    });
  });
  afterAll(async () => {
    (server as any).closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
    await orchestrator.stop({ graceMs: 0 });
  });

  test("there are some", () => expect(blocks.length).toBeGreaterThan(4));

  test.each(blocks)("%s", async (code) => {
    const env = { ...process.env, URL: url, TOKEN: tokenOf("everything"), ID: id };
    // Each ends with an error where curl does, or the server answers one.
    const script = `set -e -o pipefail; curl() { command curl -sS --fail-with-body "$@"; echo; }; ${code}`;
    const { stdout } = await execute("bash", ["-c", script], { env });
    expect(stdout.trim()).not.toBe("");
    expect(stdout).not.toContain('"type":"urn:orchestratum:problem:internal"');
  });

  test("answer what the page says", async () => {
    const run = async (start: string) => {
      const code = blocks.find((block) => block.includes(start)) as string;
      const { stdout } = await execute("bash", ["-c", code], {
        env: { ...process.env, URL: url, TOKEN: tokenOf("everything"), ID: id },
      });
      return stdout;
    };
    const [first, again] = [await run("Idempotency-Key"), await run("Idempotency-Key")];
    expect(JSON.parse(first)).toMatchObject({ status: expect.stringMatching(/^commands\//) });
    expect(again).toBe(first);
    expect(await run("/output")).toBe("7");
    const lines = (await run("ndjson"))
      .trim()
      .split("\n")
      .map((line) => JSON.parse(line));
    expect(lines.map(({ line, problem }) => [line, problem?.status])).toEqual([
      [1, undefined],
      [2, 422],
      [undefined, undefined],
    ]);
    expect(await run("/stream")).toMatch(/^event: status\nid: over\.\S+\ndata: \{"status":"succeeded"/);
  });
});
