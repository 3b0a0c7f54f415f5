/** The smallest whole program: a command, its handler, a worker, and the outcome. `npx tsx examples/minimal.ts` */
import { createOrchestrator, defineCommand } from "orchestratum";
import { pglite } from "orchestratum/pglite";
import * as v from "valibot";

const greet = defineCommand({
  name: "greet",
  input: v.object({ name: v.string() }),
  output: v.object({ greeting: v.string() }),
});

const database = await pglite(); // in memory; pglite("./data") keeps it, postgresJs(url) takes a server
const orchestrator = createOrchestrator({
  database,
  handlers: [greet.handle(({ input }) => ({ greeting: `Hello, ${input.name}!` }))],
});

await orchestrator.migrate();
orchestrator.startWorker();

const { id } = await orchestrator.push(greet({ name: "Ada" }));
const outcome = await orchestrator.waitFor(id);
console.log(outcome.status === "succeeded" ? outcome.output.greeting : outcome.error?.message);

await orchestrator.stop(); // workers, timers, listening
await database.close(); // who opens it closes it
