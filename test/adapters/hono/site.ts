/**
 * A router for tests, with its orchestrator, and a way to ask it. Every answer is held against the router's own
 * description: its status, its media type and its body must be among those that the route says it has.
 */

import { Ajv2020 } from "ajv/dist/2020.js";
import addFormats from "ajv-formats";
import { responseHeaders } from "../../../adapters/hono/headers.ts";
import { type RouterOptions, router } from "../../../adapters/hono/router.ts";
import { postgresJs } from "../../../adapters/postgres-js.ts";
import {
  createOrchestrator,
  type Driver,
  type Observation,
  type Orchestrator,
  receiveCall,
} from "../../../src/index.ts";
import { createDatabase } from "../../database.ts";
import { authorise, handlers, noted, placed, signingKey, tidy, tokenOf, wait } from "./contracts.ts";

export * from "./contracts.ts";

export interface AskOptions {
  /** Sent as JSON, a text as it is. */
  readonly body?: unknown;
  readonly headers?: Readonly<Record<string, string>>;
  /** Whose token is sent; null: none. @default "everything" */
  readonly scope?: string | null;
  readonly signal?: AbortSignal;
}

export interface Answered {
  readonly status: number;
  readonly headers: Headers;
  readonly text: string;
  /** The body where it is JSON. */
  readonly json: any;
}

export interface Site extends AsyncDisposable {
  readonly orchestrator: Orchestrator;
  readonly app: ReturnType<typeof router>;
  readonly observations: Observation[];
  /** Sends a request without a port: `ask("GET /commands")`. Reads the whole answer. */
  ask(route: string, options?: AskOptions): Promise<Answered>;
  /** The request that `ask` sends. */
  request(route: string, options?: AskOptions): Request;
}

export function createSite(driver: Driver, options: Partial<RouterOptions> = {}): Site {
  const observations: Observation[] = [];
  const orchestrator = createOrchestrator({
    database: driver,
    handlers,
    commands: [wait],
    observe: (observation) => void observations.push(observation),
  });
  const receive = receiveCall({ handlers: [tidy.handle(() => {})], keys: [signingKey] });
  const app = router(orchestrator, { authorise, events: [placed, noted], receive, ...options });
  let described: Promise<any> | undefined;

  function request(route: string, { body, headers = {}, scope = "everything", signal }: AskOptions = {}): Request {
    const [method = "GET", path = "/"] = route.split(/ (.*)/s);
    return new Request(`http://jobs.test${path}`, {
      method,
      ...(body === undefined ? {} : { body: typeof body === "string" ? body : JSON.stringify(body) }),
      ...(signal ? { signal } : {}),
      headers: {
        ...(scope === null ? {} : { Authorization: `Bearer ${tokenOf(scope)}` }),
        ...(method === "GET" ? {} : { "Content-Type": "application/json" }),
        ...headers,
      },
    });
  }

  return {
    orchestrator,
    app,
    observations,
    request,
    async ask(route, askOptions) {
      const response = await app.request(request(route, askOptions));
      const text = await response.text();
      described ??= (async () => {
        const answer = await app.request(request("GET /openapi.json"));
        return await answer.json();
      })();
      const { status, headers } = response;
      const media = headers.get("content-type")?.split(";")[0] ?? "";
      const isRead = !route.startsWith("HEAD ");
      const json = isRead && /[/+]json$/.test(media) ? JSON.parse(text) : undefined;
      requireDescribed(await described, route, { status, headers, text, json }, media);
      return { status, headers, text, json };
    },
    async [Symbol.asyncDispose]() {
      await orchestrator.stop({ graceMs: 0 });
    },
  };
}

/** A site on a migrated database of its own, which goes with it. */
export async function openSite(options: Partial<RouterOptions> = {}): Promise<Site & { readonly driver: Driver }> {
  const database = await createDatabase({ max: 4 });
  const driver = postgresJs(database.sql);
  const site = createSite(driver, options);
  return {
    ...site,
    driver,
    async [Symbol.asyncDispose]() {
      await site[Symbol.asyncDispose]();
      await database.drop();
    },
  };
}

const ajv = new Ajv2020({ strict: false, allErrors: true });
addFormats.default(ajv);
const checks = new Map<string, ReturnType<typeof ajv.compile>>();

/** The answers that were held against the description, for a test that all routes were asked. */
export const answered = new Set<string>();

/** Throws where an answer is none that the description tells of. */
export function requireDescribed(description: any, route: string, answer: Answered, media: string): void {
  const [method = "", path = ""] = route.split(/ ([^?]*)/s);
  const template = Object.keys(description.paths)
    .toSorted((a, b) => a.split("{").length - b.split("{").length)
    .find((one) => {
      const pattern = one.replaceAll(/[.]/g, "\\.").replaceAll(/\{\w+\}/g, "[^/]+");
      return new RegExp(`^${pattern}$`).test(path) && method.toLowerCase() in description.paths[one];
    });
  // What is no route answers 404, and the pages of documentation describe themselves to people.
  if (template === undefined) return;
  const { responses } = description.paths[template][method.toLowerCase()];
  const isListed = answer.status in responses;
  const described = isListed ? responses[answer.status] : responses.default;
  const key = `${method} ${template} ${isListed ? answer.status : "default"} ${media}`;
  if (!isListed && media !== "application/problem+json")
    throw new Error(`It answers what it does not describe: ${key}`);
  for (const name of Object.keys(responseHeaders)) {
    const isDescribed = name in (described.headers ?? {});
    if (answer.headers.has(name) && !isDescribed)
      throw new Error(`It has a header that it does not describe: ${key}: ${name}`);
  }
  if (described.content === undefined) {
    if (answer.text !== "") throw new Error(`It answers a body where it describes none: ${key}: ${answer.text}`);
  } else {
    const schema = Object.entries<any>(described.content).find(([one]) => one.split(";")[0] === media)?.[1].schema;
    if (schema === undefined) throw new Error(`It answers a media type that it does not describe: ${key}`);
    let check = checks.get(JSON.stringify(schema));
    if (check === undefined) {
      check = ajv.compile({ ...schema, components: description.components });
      checks.set(JSON.stringify(schema), check);
    }
    const bodies =
      media === "application/x-ndjson"
        ? answer.text
            .split("\n")
            .filter(Boolean)
            .map((line) => JSON.parse(line))
        : [answer.json ?? answer.text];
    for (const body of bodies) {
      if (!check(body)) throw new Error(`${key} is not as described: ${JSON.stringify(check.errors)}: ${answer.text}`);
    }
  }
  answered.add(key);
}
