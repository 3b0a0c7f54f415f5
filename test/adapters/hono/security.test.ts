/** What must not be possible. Every route of the description is tried, so that a new one is tried, too. */

import * as v from "valibot";
import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import { withoutValues } from "../../../adapters/hono/problem.ts";
import { router, tokenAuthoriser, unprotected } from "../../../adapters/hono/router.ts";
import { createOrchestrator, type Driver, defineCommand } from "../../../src/index.ts";
import { authorise, createSite, everything, openSite, type Site, tokenOf, wait } from "./site.ts";

let site: Awaited<ReturnType<typeof openSite>>;
const ask: Site["ask"] = (route, options) => site.ask(route, options);

interface Described {
  readonly route: string;
  readonly method: string;
  readonly scope: string | undefined;
}
let routes: Described[];

const anId = "01999f3e-7c1b-7000-8000-3f2a9f0e6d11";

/** With a value for each parameter of the path. */
const filled = (path: string): string => path.replaceAll("{id}", anId).replaceAll(/\{\w+\}/g, "some");

beforeAll(async () => {
  site = await openSite();
  const { json } = await ask("GET /openapi.json");
  routes = Object.entries<any>(json.paths).flatMap(([path, methods]) =>
    Object.entries<any>(methods).map(([method, one]) => ({
      route: `${method.toUpperCase()} ${filled(path)}`,
      method: method.toUpperCase(),
      scope: one["x-scope"],
    })),
  );
  expect(routes.length).toBeGreaterThan(20);
});
afterAll(() => site[Symbol.asyncDispose]());

describe("authorisers", () => {
  test("router() throws without one", () => {
    for (const options of [undefined, {}, { authorise: undefined }, { authorise: true }, { authorise: "token" }]) {
      expect(() => router(site.orchestrator, options as never)).toThrow(
        /^Cannot mount the router: authorise must be a function/,
      );
    }
    expect(() => router(undefined as never, { authorise })).toThrow(
      "Cannot mount the router: an orchestrator is wanted",
    );
    expect(() => router(site.orchestrator, { authorise, hosts: [] })).toThrow("hosts must be a list");
    expect(() => router(site.orchestrator, { authorise, maxStreams: 0 })).toThrow("maxStreams must be an integer");
  });

  test.each(["production", "", "staging", undefined])("unprotected() refuses to run where NODE_ENV is %o", (value) => {
    vi.stubEnv("NODE_ENV", value);
    expect(() => unprotected()).toThrow(/^Cannot leave the router unprotected/);
    vi.unstubAllEnvs();
  });

  test("unprotected() lets everybody in while developing", async () => {
    vi.stubEnv("NODE_ENV", "development");
    const app = router(site.orchestrator, { authorise: unprotected() });
    vi.unstubAllEnvs();
    expect((await app.request("/queues")).status).toBe(200);
  });

  test("tokenAuthoriser() refuses tokens and scopes that are none, and never shows a token", () => {
    const good = { name: "a", token: "0123456789abcdef", scopes: ["read"] } as const;
    const bad: [unknown, RegExp][] = [
      [[], /tokens must be a list of at least one/],
      [[{ ...good, token: "short" }], /the token of "a" must have 16 to 1,024/],
      [[{ ...good, token: undefined }], /the token of "a"/],
      [[{ ...good, token: "with a space in it" }], /the token of "a"/],
      [[{ ...good, name: "" }], /name must be/],
      [[{ ...good, scopes: [] }], /the scopes of "a"/],
      [[{ ...good, scopes: ["root"] }], /a scope of "a" must be one of push, read, process, admin/],
      [[good, { ...good, name: "b" }], /a token must be there once/],
    ];
    for (const [tokens, message] of bad) {
      const make = () => tokenAuthoriser(tokens as never);
      expect(make).toThrow(message);
      expect(make).not.toThrow(/short|0123456789abcdef|with a space/);
    }
  });

  test("tokenAuthoriser() knows old and new tokens of one name, and takes nothing else for one", async () => {
    const [old, fresh] = ["old-token-0123456789", "new-token-0123456789"];
    const know = tokenAuthoriser([old, fresh].map((token) => ({ name: "shop", token, scopes: ["read"] as const })));
    const as = (value: string) => know(new Request("http://x.test", { headers: { authorization: value } }));
    for (const token of [old, fresh]) {
      for (const scheme of ["Bearer", "bearer", "BEARER"])
        expect(await as(`${scheme} ${token}`)).toMatchObject({ name: "shop" });
    }
    const wrong = [
      `Bearer ${old}x`,
      `Bearer ${old.slice(1)}`,
      `Basic ${old}`,
      old,
      "Bearer",
      "Bearer ",
      `Bearer ${old} ${fresh}`,
      `Bearer ${old},${fresh}`,
      "",
    ];
    for (const value of wrong) expect(await as(value), value).toBe(undefined);
    expect(await know(new Request(`http://x.test/?token=${old}`))).toBe(undefined);
  });

  test("tokenAuthoriser() digests what it is given, however long, and compares digests only", async () => {
    const digest = vi.spyOn(crypto.subtle, "digest");
    const know = tokenAuthoriser([{ name: "a", token: "0123456789abcdef", scopes: ["read"] }]);
    await know(new Request("http://x.test", { headers: { authorization: "Bearer 0123456789abcdeX" } }));
    expect(digest).toHaveBeenCalledTimes(2);
    await know(new Request("http://x.test"));
    expect(digest).toHaveBeenCalledTimes(3);
    digest.mockRestore();
  });

  test("what an authoriser throws, or answers that is nobody, lets nobody in", async () => {
    const answers: [unknown, number][] = [
      [undefined, 401],
      [null, 401],
      [{ name: "", scopes: everything }, 500],
      [{ name: "a" }, 500],
      [{ name: "a", scopes: "read" }, 500],
      [{ name: "a", scopes: [] }, 403],
      [true, 500],
    ];
    for (const [answer, status] of answers) {
      const app = router(site.orchestrator, { authorise: () => answer as never });
      expect((await app.request("/queues")).status, JSON.stringify(answer)).toBe(status);
    }
    const throwing = router(site.orchestrator, {
      authorise: () => {
        throw new Error("secret of the authoriser");
      },
    });
    const refused = await throwing.request("/queues");
    expect(refused.status).toBe(500);
    expect(await refused.text()).not.toContain("secret");
    const odd = router(site.orchestrator, { authorise: () => Promise.reject("secret text") });
    const other = await odd.request("/queues");
    expect([other.status, other.headers.get("content-type")]).toEqual([500, "application/problem+json"]);
  });
});

describe("every route", () => {
  test("wants a token, and its own scope", async () => {
    for (const { route, scope } of routes) {
      if (scope === undefined) continue;
      for (const headers of [
        {},
        { Authorization: "Bearer nobody-0123456789" },
        { Authorization: `Basic ${tokenOf("everything")}` },
      ]) {
        const { status, headers: given, json } = await ask(route, { scope: null, headers });
        expect([status, given.get("www-authenticate")], route).toEqual([401, "Bearer"]);
        expect(json.type, route).toBe("urn:orchestratum:problem:unauthorised");
      }
      for (const other of everything.filter((one) => one !== scope)) {
        const { status, headers } = await ask(route, { scope: other });
        expect(status, `${route} with ${other}`).toBe(403);
        expect(headers.get("www-authenticate")).toContain(`scope="${scope}"`);
      }
    }
  });

  test("that changes something refuses pages of other sites", async () => {
    const cross = [
      { "Sec-Fetch-Site": "cross-site" },
      { "Sec-Fetch-Site": "same-site" },
      { "Sec-Fetch-Site": "none" },
      { Origin: "https://evil.test" },
      { Origin: "null" },
      { Origin: "http://jobs.test.evil.test" },
      { Origin: "http://jobs.test:8080" },
      { "Sec-Fetch-Site": "same-origin", Origin: "https://evil.test" },
    ];
    const unsafe = routes.filter(({ method }) => method !== "GET");
    expect(unsafe.length).toBeGreaterThan(5);
    for (const { route } of unsafe) {
      for (const headers of cross) {
        const { status, json } = await ask(route, { headers, body: {} });
        expect([status, json.type], `${route} ${JSON.stringify(headers)}`).toEqual([
          403,
          "urn:orchestratum:problem:cross_site",
        ]);
      }
      for (const headers of [
        { "Sec-Fetch-Site": "same-origin" },
        { Origin: "https://jobs.test", "Sec-Fetch-Site": "same-origin" },
      ]) {
        expect((await ask(route, { headers, body: "{" })).status, route).not.toBe(403);
      }
    }
    for (const method of ["DELETE", "PUT", "PATCH"]) {
      const { status, headers } = await ask(`${method} /commands/${anId}`, {
        headers: { Origin: "https://evil.test" },
      });
      expect([status, headers.get("allow")], method).toEqual([405, "GET, HEAD"]);
    }
  });

  test("answers HEAD as GET without a body, and keeps no stream open for it", async () => {
    await using other = createSite(site.driver, { maxStreams: 2 });
    const { id } = await other.orchestrator.push(wait());
    const gets = routes.filter(({ method }) => method === "GET").map(({ route }) => route.slice(4).replace(anId, id));
    expect(gets).toContain(`/commands/${id}/stream`);
    const streams = { "/stream": {}, "/events": { Accept: "text/event-stream" }, [`/commands/${id}/stream`]: {} };
    for (const path of gets) {
      const { status, text } = await other.ask(`HEAD ${path}`);
      expect([status < 500, text], path).toEqual([true, ""]);
      expect((await other.ask(`HEAD ${path}`, { scope: null })).status, path).toBe(
        path.startsWith("/health") ? 200 : 401,
      );
    }
    for (const [path, headers] of Object.entries(streams)) {
      for (let turn = 0; turn < 3; turn++) {
        const head = await other.ask(`HEAD ${path}`, { headers });
        expect([head.status, head.headers.get("content-type")], path).toEqual([200, "text/event-stream"]);
      }
    }
    for (const [path, headers] of Object.entries(streams)) {
      const open = [1, 2].map(() => other.app.request(other.request(`GET ${path}`, { headers })));
      const answers = await Promise.all(open);
      expect(
        answers.map(({ status }) => status),
        path,
      ).toEqual([200, 200]);
      for (const { body } of answers) await body?.cancel();
    }
  });

  test("answers 405 to a method that it does not have, with those that it has", async () => {
    const methods = new Map<string, string[]>();
    for (const { route, method } of routes) {
      const path = route.slice(method.length + 1);
      methods.set(path, [...(methods.get(path) ?? []), ...(method === "GET" ? ["GET", "HEAD"] : [method])]);
    }
    for (const [path, allowed] of methods) {
      for (const method of ["PUT", "PATCH", "DELETE", "OPTIONS"]) {
        const { status, headers, json } = await ask(`${method} ${path}`, { scope: null });
        expect([status, json.type], `${method} ${path}`).toEqual([405, "urn:orchestratum:problem:method"]);
        expect(headers.get("allow")?.split(", "), path).toEqual(expect.arrayContaining(allowed));
        expect(headers.get("cache-control")).toBe("no-store");
      }
    }
    expect((await ask("PUT /nothing")).status).toBe(404);
  });

  test("that changes something wants JSON, with a body or without", async () => {
    for (const { route } of routes.filter(({ method }) => method !== "GET")) {
      for (const type of [
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data",
        "",
        "application/jsonp",
      ]) {
        for (const body of [undefined, "{}"]) {
          const { status } = await ask(route, { headers: { "Content-Type": type }, ...(body ? { body } : {}) });
          expect(status, `${route} ${type}`).toBe(415);
        }
      }
    }
  });

  test("has headers that keep it out of frames, caches, scripts and other origins", async () => {
    for (const { route, scope } of routes) {
      const given = [await ask(route, { scope: null })];
      // It has no end.
      if (route !== "GET /stream")
        given.push(await ask(route, { scope: scope ?? null, body: route.startsWith("GET") ? undefined : "{" }));
      for (const { headers } of given) {
        expect(headers.get("content-security-policy"), route).toContain("default-src 'none'; frame-ancestors 'none'");
        expect(headers.get("x-content-type-options"), route).toBe("nosniff");
        expect(headers.get("x-frame-options"), route).toBe("DENY");
        expect(headers.get("cross-origin-resource-policy"), route).toBe("same-origin");
        expect(headers.get("cache-control"), route).toMatch(/no-store|no-cache/);
        expect(
          [...headers.keys()].filter((name) => name.startsWith("access-control")),
          route,
        ).toEqual([]);
      }
    }
    const preflight = await site.app.request("http://jobs.test/commands", {
      method: "OPTIONS",
      headers: { Origin: "https://evil.test", "Access-Control-Request-Method": "POST" },
    });
    expect(preflight.headers.get("access-control-allow-origin")).toBe(null);
  });

  test("is limited in size, whatever its headers say", async () => {
    const limits: Record<string, number> = { "/commands": 300_000, "/commands/batch": 8_000_001, "/events": 8_000_001 };
    // What is called by signature has a limit of its own, behind the signature.
    const limited = routes.filter(({ method, scope }) => method !== "GET" && scope !== undefined);
    for (const { route, method } of limited) {
      const path = route.slice(method.length + 1);
      const size = limits[path] ?? (path.endsWith("/retry") ? 300_000 : 20_000);
      const body = `{"name":"wait","input":"${"x".repeat(size)}"}`;
      const { status, json } = await ask(route, { body });
      expect([status, json.type], route).toEqual([413, "urn:orchestratum:problem:too_large"]);
      expect(JSON.stringify(json)).not.toContain("xxx");
    }
  });

  /** Asks, and leaves what has no end. */
  async function attack(route: string, options: Parameters<Site["ask"]>[1]) {
    const response = await site.app.request(site.request(route, options));
    const type = response.headers.get("content-type")?.split(";")[0] ?? "";
    if (type === "text/event-stream") await response.body?.cancel();
    return { status: response.status, type, text: type === "text/event-stream" ? "" : await response.text() };
  }
  const html = '<img src=x onerror="alert(1)"><script>alert(1)</script>';

  test("that takes a body refuses what is deep, poisonous, hostile or no JSON, and tells none of it back", async () => {
    const nested = (depth: number) => `${"[".repeat(depth)}0${"]".repeat(depth)}`;
    const hostile: Record<string, string> = {
      "deep list": nested(7_000),
      "deep member": `{"filter":${nested(3_000)},"input":${nested(2_000)},"name":${nested(2_000)}}`,
      "deep objects": `${'{"a":'.repeat(2_500)}0${"}".repeat(2_500)}`,
      prototype: '{"__proto__":{"polluted":1,"scopes":["admin"]},"constructor":{"prototype":{"polluted":1}}}',
      HTML: JSON.stringify({ name: html, filter: { name: html, [html]: html }, deliveries: html, events: [html] }),
      NUL: '{"name":"\\u0000","filter":{"queue":"\\u0000"},"queues":["\\u0000"],"deliveries":"\\u0000"}',
      surrogate: '{"name":"\\ud800","filter":{"queue":"\\ud800"},"queues":["\\ud800"],"deliveries":"\\ud800"}',
      "no JSON": `{"name":"${html}`,
      number: "1e999",
      nothing: "null",
    };
    for (const { route } of routes.filter(({ method }) => method !== "GET")) {
      for (const [kind, body] of Object.entries(hostile)) {
        const { status, type, text } = await attack(route, { body });
        expect([400, 401, 422], `${route}, ${kind}: ${text.slice(0, 300)}`).toContain(status);
        expect([type, text.length < 40_000, text.includes(`:"${html}`)], `${route}, ${kind}`).toEqual([
          "application/problem+json",
          true,
          false,
        ]);
      }
    }
    expect(({} as { polluted?: number }).polluted).toBe(undefined);
  });

  test("takes whatever stands in its path and its query without harm, and never as HTML", async () => {
    const names = [
      html,
      ...["__proto__", "constructor", "../../etc/passwd", "..%2f..%2fetc", "%00", "%zz", "a\r\nSet-Cookie: x=1"],
      ...["' or 1=1 --", "\u202e\u0000", "x".repeat(8_000), "漢🎉", "${7*7}", "{{7*7}}", " ", "*", "#"],
    ];
    for (const { route, scope } of routes) {
      const [method = "", path = ""] = route.split(" ");
      for (const name of names) {
        const encoded = encodeURIComponent(name);
        const inPath = path.split("/").map((part) => (part === anId || part === "some" ? encoded : part));
        const polluting = "__proto__[polluted]=1&constructor[prototype][polluted]=1";
        const query = `${polluting}&${encoded}=${encoded}&__proto__=${encoded}&queue=${encoded}&topic=${encoded}&cursor=${encoded}&limit=${encoded}`;
        for (const address of [inPath.join("/"), `${path}?${query}`]) {
          const { status, type, text } = await attack(`${method} ${address}`, {
            scope: scope ?? null,
            ...(method === "GET" ? {} : { body: {} }),
          });
          expect(status, `${method} ${address}`).toBeLessThan(500);
          expect(["", "application/json", "application/problem+json", "text/plain", "text/event-stream"]).toContain(
            type,
          );
          if (status >= 400) expect(text.length, address).toBeLessThan(2_000);
        }
      }
    }
    expect(({} as Record<string, unknown>).polluted).toBe(undefined);
    for (const { queue, paused } of await site.orchestrator.queues()) {
      if (paused) await site.orchestrator.resumeQueue(queue);
    }
    for (const name of ["some", ...names]) await site.orchestrator.resumeName(name).catch(() => {});
  }, 60_000);

  test("answers nothing but what it describes to 1,000 names of every kind", async () => {
    const alphabet = [
      "a",
      "é",
      "漢",
      "🎉",
      "/",
      "%",
      "..",
      "?",
      "#",
      "\\",
      "'",
      '"',
      "<",
      ">",
      "&",
      ";",
      "\n",
      "\r\n",
      "\0",
      " ",
      "$1",
      "{",
      "}",
      "__proto__",
      "\u202e",
      "%00",
      "%2e",
    ];
    let seed = 12_345;
    const random = (below: number) => {
      seed = (seed * 1_103_515_245 + 12_345) % 2 ** 31;
      return seed % below;
    };
    const templates = [
      (name: string) => ["POST /commands", { name, input: name }],
      (name: string) => [`GET /commands/${name}`, undefined],
      (name: string) => [`POST /queues/${name}/pause`, {}],
      (name: string) => ["GET /commands", undefined, name],
      (name: string) => ["POST /commands", { name: "wait", queue: name, metadata: { [name]: name } }],
    ] as const;
    for (let turn = 0; turn < 1_000; turn++) {
      const name = Array.from({ length: random(12) + 1 }, () => alphabet[random(alphabet.length)]).join("");
      const [route, body, query] = (templates[turn % templates.length] as (typeof templates)[0])(
        encodeWhere(turn, name),
      ) as [string, unknown, string?];
      const address =
        query === undefined
          ? route
          : `${route}?queue=${encodeURIComponent(query)}&status=pending&cursor=${encodeURIComponent(query)}`;
      const { status, text } = await ask(address, body === undefined ? {} : { body });
      expect(status, address).toBeLessThan(500);
      if (status === 400 || status === 422) expect(text.length).toBeLessThan(4_000);
    }
    for (const queue of (await site.orchestrator.queues()).filter(({ paused }) => paused)) {
      await site.orchestrator.resumeQueue(queue.queue);
    }
  });

  /** Names that stand in a path are escaped there, and every other time they are not. */
  const encodeWhere = (turn: number, name: string): string => {
    if (turn % 5 !== 1 && turn % 5 !== 2) return name;
    return turn % 2 === 0 ? encodeURIComponent(name) : encodeURI(name.replaceAll(/[?#]/g, ""));
  };
});

describe("hosts and origins", () => {
  test("a Host that is not listed is not served, also for what anybody may ask", async () => {
    await using other = createSite(site.driver, { hosts: ["jobs.test", "localhost:3000"] });
    expect((await other.ask("GET /health/live")).status).toBe(200);
    for (const host of ["evil.test", "jobs.test.evil.test", "localhost", "jobs.test:80"]) {
      const request = new Request("http://jobs.test/health/live", { headers: { host } });
      expect((await other.app.request(request)).status, host).toBe(421);
    }
  });

  test("an origin that is listed may send what changes something, and no other", async () => {
    await using other = createSite(site.driver, { origins: ["https://admin.test"] });
    const send = (headers: Record<string, string>) => other.ask("POST /queues/q/resume", { headers });
    expect((await send({ Origin: "https://admin.test", "Sec-Fetch-Site": "cross-site" })).status).toBe(200);
    expect((await send({ Origin: "https://evil.test", "Sec-Fetch-Site": "cross-site" })).status).toBe(403);
    expect((await send({ Origin: "http://admin.test" })).status).toBe(403);
    expect(
      (await send({ Origin: "https://admin.test", "Sec-Fetch-Site": "cross-site" })).headers.get(
        "access-control-allow-origin",
      ),
    ).toBe(null);
  });
});

describe("what is sent", () => {
  const secret = "s3cr3t-of-ada@nowhere";

  test("is never told back, by any problem", async () => {
    const bodies = [
      `{"name":"add","input":{"a":"${secret}","mail":"${secret}"}}`,
      `{"name":"add","input":"${secret}"}`,
      `{"name":"${secret}","input":1}`,
      `{"name":"wait","queue":"${secret} ","metadata":{"source":{"a":"${secret}"}}}`,
      `{"name":"wait","metadata":{"correlationId":["${secret}"]}}`,
      `{"name":"wait","priority":"${secret}"}`,
      `{"name":"wait","runAt":"${secret}"}`,
      `{"name":"wait","input":"${secret}`,
      secret,
      `[{"name":"add","input":{"a":"${secret}"}}]`,
    ];
    for (const body of bodies) {
      for (const route of ["POST /commands", "POST /commands/batch"]) {
        for (const type of ["application/json", ...(route.endsWith("batch") ? ["application/x-ndjson"] : [])]) {
          const { status, text } = await ask(route, { body, headers: { "Content-Type": type } });
          if (type === "application/json") expect(status, body).toBeGreaterThanOrEqual(400);
          expect(text, body).not.toContain(secret);
        }
      }
    }
  });

  test("is never told back after a transformation, and however short it is", async () => {
    const mail = v.pipe(v.string(), v.trim(), v.toLowerCase(), v.email());
    const refusing = (message: string) =>
      v.pipe(
        v.string(),
        v.trim(),
        v.toLowerCase(),
        v.check(
          () => false,
          (issue) => message + issue.input,
        ),
      );
    const rateIsHigh = ({ input }: { readonly input: number }): string => `The rate ${input} is too high`;
    const commands = [
      defineCommand({ name: "mail", input: mail }),
      defineCommand({ name: "mails", input: v.record(v.string(), mail) }),
      defineCommand({ name: "odd", input: refusing("must be something else than ") }),
      defineCommand({ name: "was", input: refusing("must be something (was ") }),
      defineCommand({ name: "actual", input: refusing("must be something, actual: ") }),
      defineCommand({
        name: "rate",
        input: v.pipe(
          v.number(),
          v.check(() => false, rateIsHigh),
        ),
      }),
    ];
    const other = createOrchestrator({ database: site.driver, commands });
    const app = router(other, { authorise });
    const send = async (body: unknown) => {
      const request = site.request("POST /commands", { body });
      const answer = await app.request(request);
      return { status: answer.status, text: await answer.text() };
    };
    for (const name of ["mail", "odd", "was", "actual"]) {
      const { status, text } = await send({ name, input: "  MyPassword-Hunter2-Secret " });
      expect(status, name).toBe(422);
      expect(text.toLowerCase(), name).not.toMatch(/password|hunter2/);
    }
    for (const input of ["q7z", "Q", " 7Q "]) {
      for (const body of [
        { name: "mail", input },
        { name: "mails", input: { of: input } },
      ]) {
        const { status, text } = await send(body);
        const [{ message }] = JSON.parse(text).issues;
        expect([status, message]).toEqual([422, "Invalid email"]);
      }
    }
    for (const input of [7.654_321, -7.654_321, 76.543_21, 7_654_321]) {
      const { status, text } = await send({ name: "rate", input });
      expect([status, text], String(input)).toEqual([422, expect.not.stringContaining(String(input))]);
    }
    await other.stop();
  });

  test("is cut out of messages in no time, however long it is and whatever stands in it", () => {
    // With a look at the rest for each of its beginnings this would take many minutes.
    for (const part of [
      " (was ",
      ", got ",
      ": Received ",
      ", but received ",
      ", actual ",
      ", but the final value was",
    ]) {
      const message = `It is refused${part.repeat(4_000_000 / part.length)}`;
      expect(withoutValues(message), part).toBe("It is refused");
    }
  });

  test("may be very wide, and is refused with one issue and without harm to others", async () => {
    const wide = `[${"0,".repeat(3_900_000)}0]`;
    for (const [route, body] of [
      ["POST /commands/batch", wide],
      ["POST /events", `{"events":${wide}}`],
    ] as const) {
      const { status, json } = await ask(route, { body });
      // Not one for each element: millions of them kept everybody waiting.
      expect([status, json.issues.length], route).toEqual([422, 1]);
    }
    // Where there are not too many, each is told.
    const few = await ask("POST /commands/batch", { body: "[0,0,0]" });
    expect(few.json.issues.map(({ path }: { path: string }) => path)).toEqual(["[0]", "[1]", "[2]"]);
    for (const body of [
      `{${Array.from({ length: 20_000 }, (_, index) => `"${index}":0`).join(",")}}`,
      `[${"0,".repeat(100_000)}0]`,
    ]) {
      const { status, json } = await ask("POST /commands", { body });
      expect(status).toBe(422);
      expect(json.issues.length).toBeLessThanOrEqual(100);
    }
  });

  test("cannot poison a prototype, and is refused where it tries", async () => {
    const hostile = [
      '{"name":"wait","__proto__":{"scopes":["admin"]}}',
      '{"name":"wait","input":{"__proto__":{"polluted":1}}}',
      '{"name":"wait","input":{"\\u005f_proto__":{"polluted":1}}}',
      '{"name":"wait","metadata":{"__proto__":{"polluted":1}}}',
      '{"name":"__proto__"}',
      '{"name":"constructor"}',
    ];
    for (const body of hostile) {
      expect((await ask("POST /commands", { body })).status, body).toBeGreaterThanOrEqual(400);
    }
    expect(({} as { polluted?: number }).polluted).toBe(undefined);
  });

  test("may be deep JSON, lone surrogates, NUL or no UTF-8, and is refused without harm", async () => {
    const deep = (depth: number) => `{"name":"wait","input":${"[".repeat(depth)}${"]".repeat(depth)}}`;
    for (const depth of [65, 5_000, 100_000])
      expect((await ask("POST /commands", { body: deep(depth) })).status).toBe(422);
    expect((await ask("POST /commands", { body: deep(64) })).status).toBe(202);
    for (const input of ['"\\ud800"', '"\\u0000"']) {
      expect((await ask("POST /commands", { body: `{"name":"wait","input":${input}}` })).status, input).toBe(422);
    }
    const { headers } = site.request("POST /commands");
    const body = new Uint8Array([0x22, 0xff, 0xfe, 0x22]);
    const broken = await site.app.request("http://jobs.test/commands", { method: "POST", headers, body });
    expect(broken.status).toBe(400);
  });

  test("as HTML in every field comes back as JSON and text only", async () => {
    const html = '<img src=x onerror="alert(1)"></script><script>alert(1)</script>';
    const metadata = { source: html, correlationId: html, [html]: html };
    const { json } = await ask("POST /commands", {
      body: { name: "wait", input: { [html]: html }, queue: "<script>alert(1)</script>", metadata },
    });
    for (const path of [
      `/commands/${json.id}`,
      `/commands/${json.id}/timeline`,
      `/commands/${json.id}/tree`,
      "/queues",
      "/stats",
      "/metrics",
      `/commands?correlationId=${encodeURIComponent(html)}`,
    ]) {
      const { status, headers } = await ask(`GET ${path}`);
      expect(status, path).toBe(200);
      expect(headers.get("content-type"), path).toMatch(/^(?:application\/json|text\/plain)/);
    }
    for (const path of [`/commands/${encodeURIComponent(html)}`, `/${encodeURIComponent(html)}`]) {
      const { status, headers } = await ask(`GET ${path}`);
      expect([400, 404]).toContain(status);
      expect(headers.get("content-type"), path).toBe("application/problem+json");
    }
  });

  test("cannot add headers to an answer", async () => {
    for (const name of ["a\r\nSet-Cookie: x=1", "a%0d%0aSet-Cookie:x=1"]) {
      const { headers } = await ask(`POST /queues/${encodeURIComponent(name)}/pause`);
      expect(headers.get("set-cookie")).toBe(null);
    }
    for (const [key, status] of [
      ["a%0d%0aX:y", 202],
      ["x".repeat(255), 202],
      ["x".repeat(256), 400],
      ["a b", 400],
      ["a\tb", 400],
      ["é".repeat(3), 400],
      ["", 400],
    ] as const) {
      const answer = await ask("POST /commands", { body: { name: "wait" }, headers: { "Idempotency-Key": key } });
      expect(answer.status, key).toBe(status);
      expect(answer.headers.get("x")).toBe(null);
    }
  });
});

test("what nobody foresaw is a 500 with an id and nothing else, and the observers get the error under it", async () => {
  const broken: Driver = {
    ...site.driver,
    name: "broken",
    query: async () => {
      throw Object.assign(new Error("relation secret_table of password hunter2"), { code: "XX000" });
    },
    script: async () => {},
  } as never;
  await using other = createSite(broken);
  const { status, json, text } = await other.ask("GET /queues");
  expect(status).toBe(500);
  expect(Object.keys(json).toSorted()).toEqual(["id", "status", "title", "type"]);
  expect(text).not.toMatch(/secret|hunter|relation/);
  const [seen] = other.observations.filter(({ type }) => type === "internal_error") as any[];
  expect(seen.operation).toContain(json.id);
  expect(seen.error.message).toContain("hunter2");
});

test("the page of documentation is static, has no inline script, and puts everything in as text", async () => {
  for (const [path, type] of [
    ["/docs", "text/html"],
    ["/docs.js", "text/javascript"],
    ["/docs.css", "text/css"],
  ]) {
    const { status, headers, text } = await ask(`GET ${path}`, { scope: null });
    expect([status, headers.get("content-type")?.split(";")[0]]).toEqual([200, type]);
    const policy = headers.get("content-security-policy") ?? "";
    expect(policy).toContain("script-src 'self'");
    expect(policy).not.toMatch(/unsafe|\*|https?:|nonce/);
    expect(text).not.toMatch(
      /innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval|https?:|\son\w+=|<script>|style="/,
    );
  }
});
