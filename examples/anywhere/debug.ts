/**
 * One file for every runtime: a worker as a process on Node.js, Deno and Bun, and a module of an edge platform. All of
 * them may work on one queue together.
 *
 *     DATABASE_URL=postgres://… npx tsx examples/anywhere/main.ts
 *     DATABASE_URL=postgres://… deno run --config examples/deno.json --allow-net --allow-env examples/anywhere/main.ts
 *     DATABASE_URL=postgres://… bun examples/anywhere/main.ts
 *
 * For Cloudflare Workers it is the module itself, with a cron trigger and DATABASE_URL as a binding.
 */
import process from "node:process";
import { createOrchestrator, defineCommand, type Orchestrator } from "orchestratum";
import { postgresJs } from "orchestratum/postgres-js";
import { edge } from "orchestratum/workers";
import * as v from "valibot";

const { navigator } = globalThis as { navigator?: { userAgent?: string } };
const runtime =
  "Deno" in globalThis
    ? "deno"
    : "Bun" in globalThis
      ? "bun"
      : navigator?.userAgent === "Cloudflare-Workers"
        ? "workerd"
        : "node";

/** Says where it was handled. */
export const greet = defineCommand({
  name: "greet",
  input: v.object({ name: v.string() }),
  output: v.object({ text: v.string(), by: v.string() }),
});

const handlers = [
  greet.handle(async ({ input }) => {
    await new Promise((resolve) => setTimeout(resolve, 20));
    return { text: `Hello, ${input.name}!`, by: runtime };
  }),
];

function open(url: string): { orchestrator: Orchestrator; close: () => Promise<void> } {
  const database = postgresJs(url, { max: 5 });
  return { orchestrator: createOrchestrator({ database, handlers }), close: () => database.close() };
}

// An edge platform calls this one, by a timer. Bun and Deno would serve HTTP by it.
export default runtime === "workerd"
  ? edge<{ DATABASE_URL: string }>({
      open: ({ DATABASE_URL }) => open(DATABASE_URL),
      tick: { maxCommands: 25, concurrency: 5 }, onTick: (r) => console.log(Date.now()%100000, JSON.stringify(r)),
    })
  : undefined;

// Everywhere else this file is the program.
if (runtime !== "workerd") {
  const { runWorker } =
    runtime === "deno"
      ? await import("orchestratum/deno")
      : runtime === "bun"
        ? await import("orchestratum/bun")
        : await import("orchestratum/node");
  const { orchestrator, close } = open(process.env.DATABASE_URL as string);
  await runWorker(orchestrator, { concurrency: 5, http: { port: Number(process.env.PORT ?? 0) } });
  await close();
}
