/**
 * A worker as a program, the same on Node.js, Deno and Bun. argv: the URL of a database, `health` or `router`, and the
 * token that the router asks for. Prints where it listens, each command that it holds, and that it has ended.
 */
import process from "node:process";
import { createOrchestrator } from "orchestratum";
import { router, tokenAuthoriser } from "orchestratum/hono";
import { postgresJs } from "orchestratum/postgres-js";

const { runWorker, handlersFrom } =
  "Deno" in globalThis
    ? await import("orchestratum/deno")
    : "Bun" in globalThis
      ? await import("orchestratum/bun")
      : await import("orchestratum/node");

const [url, served, token] = process.argv.slice(2) as [string, "health" | "router", string];
const authorise = tokenAuthoriser([{ name: "test", token, scopes: ["push", "read"] }]);
const database = postgresJs(url, { max: 4 });
const handlers = await handlersFrom(new URL("./commands/", import.meta.url));
const orchestrator = createOrchestrator({ database, handlers });
await runWorker(orchestrator, {
  graceMs: 600_000,
  abortGraceMs: 1_000,
  http: {
    port: 0,
    ...(served === "router" ? { fetch: router(orchestrator, { authorise }).fetch } : {}),
    onListen: ({ hostname, port }) => console.log(`listening http://${hostname}:${port}`),
  },
});
await database.close();
console.log("ended");
