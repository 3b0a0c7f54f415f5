/** The description: valid by a validator of the field, complete, and made of the schemas that validate. */

import { Validator } from "@seriousme/openapi-schema-validator";
import { Ajv2020 } from "ajv/dist/2020.js";
import addFormats from "ajv-formats";
import * as v from "valibot";
import { afterAll, beforeAll, expect, test } from "vitest";
import { router } from "../../../adapters/hono/router.ts";
import { createOrchestrator, defineCommand, type StandardSchemaV1 } from "../../../src/index.ts";
import { authorise, createSite, openSite, signingKey, tokenOf } from "./site.ts";

let site: Awaited<ReturnType<typeof openSite>>;
let description: any;

beforeAll(async () => {
  site = await openSite();
  description = (await site.ask("GET /openapi.json")).json;
});
afterAll(() => site[Symbol.asyncDispose]());

test("the description is valid OpenAPI 3.1", async () => {
  const validator = new Validator();
  const { valid, errors } = await validator.validate(structuredClone(description));
  expect(errors).toBe(undefined);
  expect([valid, validator.version]).toEqual([true, "3.1"]);
});

test("it has every route of the app, but for the pages", () => {
  const own = site.app.routes.filter(({ method }) => method !== "ALL");
  const routes = own.map(({ method, path }) => `${method} ${path.replaceAll(/:(\w+)/g, "{$1}")}`);
  const described = Object.entries<any>(description.paths).flatMap(([path, methods]) =>
    Object.keys(methods).map((method) => `${method.toUpperCase()} ${path}`),
  );
  const pages = ["GET /docs", "GET /docs.js", "GET /docs.css"];
  expect(described.toSorted()).toEqual([...new Set(routes)].filter((one) => !pages.includes(one)).toSorted());
  // Those of all methods say which ones an address has, and are no routes of their own.
  const paths = new Set(own.map(({ path }) => path));
  const others = site.app.routes.filter(({ method, path }) => method === "ALL" && !paths.has(path));
  expect(others.map(({ path }) => path)).toEqual([]);
});

test("it has the schemas of the commands that may be pushed, and the body of a push by them", () => {
  const { schemas } = description.components;
  const [key = ""] = Object.keys(schemas).filter((one) => /^command\.add\.1\.\d+\.input$/.test(one));
  expect(schemas[key]).toMatchObject({
    type: "object",
    properties: { a: { type: "number" }, mail: { format: "email" } },
    required: ["a"],
  });
  expect(schemas[key.replace("input", "output")]).toMatchObject({ properties: { sum: { type: "number" } } });
  const ajv = new Ajv2020({ strict: false });
  addFormats.default(ajv);
  const { schema } = description.paths["/commands"].post.requestBody.content["application/json"];
  const isPushed = ajv.compile({ ...schema, components: description.components });
  for (const body of [
    { name: "add", input: { a: 1 } },
    { name: "wait", input: [1], queue: "q", delayMs: 5 },
  ])
    expect(isPushed(body)).toBe(true);
  for (const body of [
    { name: "add", input: { a: "x" } },
    { name: "nobody" },
    { input: 1 },
    { name: "wait", colour: 1 },
    { name: "wait", priority: 10 },
  ]) {
    expect(isPushed(body), JSON.stringify(body)).toBe(false);
  }
});

test("the bodies of a batch are by the schemas of the commands, too", () => {
  const ajv = new Ajv2020({ strict: false });
  addFormats.default(ajv);
  const { content } = description.paths["/commands/batch"].post.requestBody;
  const { components } = description;
  const isList = ajv.compile({ ...content["application/json"].schema, components });
  const isLine = ajv.compile({ ...content["application/x-ndjson"].schema, components });
  const [good, wrong] = [
    { name: "add", input: { a: 1 } },
    { name: "add", input: { a: "x" } },
  ];
  expect([isList([good, good]), isLine(good)]).toEqual([true, true]);
  for (const bad of [[good, wrong], [{ name: "nobody" }], [], good])
    expect(isList(bad), JSON.stringify(bad)).toBe(false);
  for (const bad of [wrong, { name: "nobody" }, [good]]) expect(isLine(bad), JSON.stringify(bad)).toBe(false);
});

test("it tells of the headers that are heard, and of what lets somebody in", async () => {
  await using other = createSite(site.driver, { tickKeys: signingKey });
  const { paths } = (await other.ask("GET /openapi.json")).json;
  const heardBy = (path: string, method: string) =>
    (paths[path][method].parameters ?? [])
      .filter((one: any) => one.in === "header")
      .map(({ name, required }: any) => (required ? `${name}!` : name));
  expect(heardBy("/commands", "post")).toEqual(["Idempotency-Key"]);
  expect(heardBy("/commands/batch", "post")).toEqual(["Idempotency-Key"]);
  expect(heardBy("/events", "post")).toEqual(["Idempotency-Key"]);
  expect(heardBy("/commands/{id}", "get")).toEqual(["Prefer", "If-None-Match"]);
  expect(heardBy("/commands/{id}/output", "get")).toEqual(["Prefer"]);
  for (const path of ["/stream", "/commands/{id}/stream", "/events"]) {
    expect(heardBy(path, "get"), path).toEqual(["Last-Event-ID"]);
    expect(Object.keys(paths[path].get.responses[200].content), path).toContain("text/event-stream");
  }
  expect(heardBy("/tick", "post")).toEqual(["webhook-id", "webhook-timestamp", "webhook-signature"]);
  expect(heardBy("/execute", "post")).toEqual(["webhook-id!", "webhook-timestamp!", "webhook-signature!"]);
  expect(paths["/tick"].post.security).toEqual([{ bearer: [] }, { signature: [] }]);
  expect(paths["/execute"].post.security).toEqual([{ signature: [] }]);
  // Without keys a tick wants a token, and hears no signature.
  expect(description.paths["/tick"].post).toMatchObject({ security: [{ bearer: [] }] });
  expect(description.paths["/tick"].post.parameters).toBe(undefined);
  expect(paths["/health/live"].get.security).toEqual([]);
});

test("schemas of other libraries go through the converter that was given, else they are any JSON", async () => {
  const foreign: StandardSchemaV1 = { "~standard": { version: 1, vendor: "own", validate: (value) => ({ value }) } };
  const recursive: v.GenericSchema = v.object({ id: v.string(), next: v.optional(v.lazy(() => recursive)) });
  const commands = [
    defineCommand({ name: "own command / ü", input: foreign, output: foreign }),
    defineCommand({ name: "recursive", input: recursive }),
    defineCommand({ name: "dated", input: v.object({ at: v.date() }), version: 2 }),
  ];
  const orchestrator = createOrchestrator({ database: site.driver, commands });
  const ask = async (options: object) => {
    const app = router(orchestrator, { authorise, title: "Jobs", ...options });
    const answer = await app.request("/openapi.json", { headers: { authorization: `Bearer ${tokenOf("read")}` } });
    expect(answer.status).toBe(200);
    return (await answer.json()) as any;
  };
  const plain = await ask({});
  expect(plain.info.title).toBe("Jobs");
  expect((await new Validator().validate(structuredClone(plain))).errors).toBe(undefined);
  const keys = Object.keys(plain.components.schemas).filter((key) => key.startsWith("command."));
  const [recursiveKey = "", ...definitions] = keys.filter((key) => key.startsWith("command.recursive.1.1.input"));
  expect(keys).toHaveLength(6 + definitions.length);
  expect(definitions.length).toBeGreaterThanOrEqual(1);
  const ajv = new Ajv2020({ strict: false });
  const isRecursive = ajv.compile({
    $ref: `#/components/schemas/${recursiveKey}`,
    components: plain.components,
  });
  expect(isRecursive({ id: "a", next: { id: "b", next: { id: "c" } } })).toBe(true);
  expect(isRecursive({ id: "a", next: { id: "b", next: { id: 3 } } })).toBe(false);
  for (const key of keys) expect(key).toMatch(/^[A-Za-z0-9._-]+$/);
  expect(plain.components.schemas["command.own_command____.1.0.input"]).toEqual({});
  const converted = await ask({ jsonSchema: (_: unknown, side: string) => ({ type: "string", title: side }) });
  expect(converted.components.schemas["command.own_command____.1.0.output"]).toEqual({
    type: "string",
    title: "output",
  });
  await orchestrator.stop();
});

test("what a schema refers to within itself is the same in the description", async () => {
  const foreign: StandardSchemaV1 = { "~standard": { version: 1, vendor: "own", validate: (value) => ({ value }) } };
  const own = {
    type: "object",
    properties: { word: { type: "string" }, same: { $ref: "#/properties/word" }, part: { $ref: "#/$defs/a~1~0b" } },
    $defs: {
      "a/~b": {
        type: "object",
        properties: {
          whole: { $ref: "#" },
          size: { type: "number" },
          other: { $ref: "#/$defs/a~1~0b/properties/size" },
        },
      },
    },
  };
  const commands = [defineCommand({ name: "own", input: foreign })];
  const orchestrator = createOrchestrator({ database: site.driver, commands });
  const app = router(orchestrator, { authorise, jsonSchema: () => own });
  const headers = { authorization: `Bearer ${tokenOf("read")}` };
  const { components }: any = await (await app.request("/openapi.json", { headers })).json();
  const isOwn = new Ajv2020({ strict: false }).compile({
    $ref: "#/components/schemas/command.own.1.0.input",
    components,
  });
  expect(isOwn({ same: "a", part: { other: 1, whole: { word: "b" } } })).toBe(true);
  for (const bad of [{ same: 1 }, { part: { other: "a" } }, { part: { whole: { word: 1 } } }])
    expect(isOwn(bad), JSON.stringify(bad)).toBe(false);
  await orchestrator.stop();
});
