/** The page of the description, as a browser runs it: its own script, over what the router answers at the page's address. */
import { serve } from "@hono/node-server";
import { Browser, type BrowserPage } from "happy-dom";
import { Hono } from "hono";
import * as v from "valibot";
import { afterAll, beforeAll, expect, test } from "vitest";
import { router } from "../../../adapters/hono/router.ts";
import { createOrchestrator, defineCommand } from "../../../src/index.ts";
import { authorise, openSite, placed, tokenOf } from "./site.ts";

/** What would run, or be an element, wherever it was put into the page as HTML. */
const hostile = "</title></pre><img src=x onerror=hit()><script>hit()</script>&lt;b>";
const stamp = defineCommand({
  name: "stamp",
  input: v.object({
    text: v.pipe(v.string(), v.title(hostile), v.description(hostile)),
    [hostile]: v.literal(hostile),
  }),
});

let site: Awaited<ReturnType<typeof openSite>>;
let server: ReturnType<typeof serve>;
let url: string;
let description: any;
let browser: Browser;
let page: BrowserPage;

beforeAll(async () => {
  site = await openSite();
  const orchestrator = createOrchestrator({ database: site.driver, commands: [stamp] });
  const app = new Hono().route("/jobs", router(orchestrator, { authorise, events: [placed], title: hostile }));
  url = await new Promise((resolve) => {
    server = serve({ fetch: app.fetch, port: 0, hostname: "127.0.0.1" }, ({ port }) =>
      resolve(`http://127.0.0.1:${port}/jobs`),
    );
  });
  const answer = await fetch(`${url}/openapi.json`, { headers: { Authorization: `Bearer ${tokenOf("read")}` } });
  description = await answer.json();
  browser = new Browser({
    settings: { enableJavaScriptEvaluation: true, suppressInsecureJavaScriptEnvironmentWarning: true },
  });
  page = browser.newPage();
  await page.goto(`${url}/docs`);
  await page.waitUntilComplete();
});
afterAll(async () => {
  await browser.close();
  (server as any).closeAllConnections();
  await new Promise((resolve) => server.close(resolve));
  await site[Symbol.asyncDispose]();
});

const one = (selector: string): any => page.mainFrame.document.querySelector(selector);
const all = (selector: string, within: any = page.mainFrame.document): any[] => [...within.querySelectorAll(selector)];

/** Whether one of the parts of the page is of a route; the others are of schemas. */
const isRoute = (details: any): boolean => details.querySelector("summary > code") !== null;

/** Writes a token into the form, and sends it. */
async function show(token: string): Promise<void> {
  one("#token").value = token;
  one("#ask button").click();
  await page.waitUntilComplete();
}

test("asks for a token, says that one is wrong, and forgets the right one", async () => {
  expect([one("#ask").hidden, one("#state").textContent, all("#routes *")]).toEqual([false, "", []]);
  await show("another-token-0123456789");
  expect([one("#ask").hidden, one("#state").textContent]).toEqual([false, "Not with this token: 401"]);
  await show(tokenOf("push"));
  expect([one("#state").textContent, all("#routes *")]).toEqual(["Not with this token: 403", []]);
  await show(tokenOf("read"));
  expect([one("#ask").hidden, one("#state").textContent]).toEqual([true, ""]);
  expect(page.mainFrame.url).toBe(`${url}/docs`);
  const { localStorage, sessionStorage } = page.mainFrame.window;
  expect([localStorage.length, sessionStorage.length, page.mainFrame.document.cookie]).toEqual([0, 0, ""]);
});

test("shows every route with its scope, its parameters, its body and its answers", () => {
  const shown = all("#routes > details")
    .filter(isRoute)
    .map((details) => ({
      route: details.querySelector("summary > code").textContent,
      summary: details.querySelector("summary").textContent,
      scope: details.querySelector("summary > .scope")?.textContent,
      blocks: all("h4", details).map(({ textContent, nextElementSibling }) => [
        textContent,
        JSON.parse(nextElementSibling.textContent),
      ]),
    }));
  const described = Object.entries<any>(description.paths).flatMap(([path, methods]) =>
    Object.entries<any>(methods).map(([method, { summary, parameters, requestBody, responses, "x-scope": scope }]) => ({
      route: `${method.toUpperCase()} ${path}`,
      summary: `${method.toUpperCase()} ${path} ${summary}${scope ?? ""}`,
      scope,
      blocks: [
        ...(parameters ? [["Parameters", parameters]] : []),
        ...(requestBody ? [["Body", requestBody.content]] : []),
        ...Object.entries<any>(responses).map(([status, answer]) => [
          `${status} ${answer.description}`,
          answer.content ?? {},
        ]),
      ],
    })),
  );
  expect(described.length).toBeGreaterThan(20);
  expect(shown).toEqual(described);
});

test("shows every schema, those of commands among them", () => {
  const shown = all("#routes > details")
    .filter((details) => !isRoute(details))
    .map((details) => [
      details.querySelector("summary").textContent,
      JSON.parse(details.querySelector("pre").textContent),
    ]);
  expect(Object.fromEntries(shown)).toEqual(description.components.schemas);
  expect(shown.map(([name]) => name)).toContainEqual(expect.stringMatching(/^command\.stamp\.1\.\d+\.input$/));
});

test("takes nothing of the description for HTML", () => {
  const { document } = page.mainFrame;
  expect(JSON.stringify(description.components.schemas)).toContain(JSON.stringify(hostile).slice(1, -1));
  expect([one("#title").textContent, document.title]).toEqual([hostile, hostile]);
  expect(one("#routes").textContent).toContain(JSON.stringify(hostile));
  const kinds = new Set(all("#routes *, #title *").map(({ tagName }) => tagName.toLowerCase()));
  expect([...kinds].toSorted()).toEqual(["code", "details", "h2", "h4", "pre", "span", "summary"]);
  expect(all("script").map(({ src }) => src)).toEqual([`${url}/docs.js`]);
});
