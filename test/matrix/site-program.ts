/** The router of the socket tests, with a worker beside it, as a program of Deno and Bun. argv: the URL of a database. */
import process from "node:process";
import { postgresJs } from "orchestratum/postgres-js";
import { createServedSite } from "../adapters/hono/served-site.ts";

const { runWorker } = "Deno" in globalThis ? await import("orchestratum/deno") : await import("orchestratum/bun");

const database = postgresJs(process.argv[2] as string, { max: 8 });
const { orchestrator, fetch } = createServedSite(database);
await runWorker(orchestrator, {
  graceMs: 0,
  http: { port: 0, fetch, onListen: ({ port }) => console.log(`listening http://127.0.0.1:${port}`) },
});
await database.close();
