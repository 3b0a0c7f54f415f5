/** A worker as docs/runtimes.md shows it for Deno. argv: `server`, on DATABASE_URL, or `embedded`, in memory. */
import process from "node:process";
import { createOrchestrator, defineCommand } from "orchestratum";
import { runWorker } from "orchestratum/deno";
import { pglite } from "orchestratum/pglite";
import { postgresJs } from "orchestratum/postgres-js";

const job = defineCommand({ name: "job" });
const isEmbedded = process.argv[2] === "embedded";
const database = isEmbedded ? await pglite() : postgresJs(process.env.DATABASE_URL as string);
const orchestrator = createOrchestrator({ database, handlers: [job.handle(() => console.log("ran"))] });
if (isEmbedded) await orchestrator.migrate();
await orchestrator.push(job());
await runWorker(orchestrator, {
  http: { port: 0, onListen: ({ hostname, port }) => console.log(`listening http://${hostname}:${port}`) },
});
await database.close();
console.log("ended");
