/**
 * Serves the router of an orchestrator, without a worker. argv: url, port. Ready when it listens; goes on until it is
 * asked. GET /figures answers what it has taken until now: processor time, statements, and memory (with `?collect` after
 * a collection).
 */
import process from "node:process";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { serve } from "@hono/node-server";
import { Hono } from "hono";
import postgres from "postgres";
import { router, tokenAuthoriser } from "../../adapters/hono/router.ts";
import { postgresJs } from "../../adapters/postgres-js.ts";
import { createOrchestrator, type Driver } from "../../src/index.ts";
import { benchToken, type ServerFigures } from "./http-figures.ts";
import { measured } from "./measured.ts";
import { answer, ready, untilAsked } from "./parent.ts";
import { sayTroubles } from "./troubles.ts";

const [url, port] = process.argv.slice(2) as [string, string];
setFlagsFromString("--expose-gc");
const collect = runInNewContext("gc") as () => void;

const driver = postgresJs(postgres(url, { max: 10, onnotice: () => {} }));
let statements = 0;
const counting: Driver = Object.assign(Object.create(driver), {
  query: (...given: Parameters<Driver["query"]>) => {
    statements++;
    return driver.query(...given);
  },
});
const orchestrator = createOrchestrator({ database: counting, commands: [measured], observe: sayTroubles });
const authorise = tokenAuthoriser([{ name: "bench", token: benchToken, scopes: ["push", "read"] }]);

const app = new Hono();
app.get("/figures", (c) => {
  // Not where processor time is measured: a collection takes its share of it.
  if (c.req.query("collect") !== undefined) collect();
  const { user, system } = process.cpuUsage();
  const { rss, heapUsed } = process.memoryUsage();
  const figures: ServerFigures = { rss, heapUsed, cpuSeconds: (user + system) / 1e6, statements };
  return c.json(figures);
});
app.route("/", router(orchestrator, { authorise, maxStreams: 1_000 }));
await orchestrator.push(measured(0));
const server = serve({ fetch: app.fetch, port: Number(port), hostname: "127.0.0.1" }, ready);
await untilAsked();
server.close();
answer(null);
