/**
 * Middleware that reports every failed attempt to somewhere, with what a person needs to find it again.
 * `npx tsx examples/error-reporter.ts`
 */
import { createOrchestrator, defineCommand, type Middleware } from "orchestratum";
import { pglite } from "orchestratum/pglite";

/** What an error tracker's client looks like. */
interface Tracker {
  capture(error: unknown, tags: Readonly<Record<string, string | number>>): void;
}

const reportErrors = (tracker: Tracker): Middleware => ({
  name: "report errors",
  async execute({ id, name, attempt, hook, metadata }, next) {
    const attempted = await next();
    if (attempted.kind !== "failed") return;
    tracker.capture(attempted.error, {
      id,
      name,
      attempt,
      hook: hook ?? "none",
      actor: metadata.actor?.id ?? "nobody",
    });
  },
});

const chargeCard = defineCommand({ name: "charge_card", retries: 2, backoff: { initialMs: 20 } });

const database = await pglite();
const orchestrator = createOrchestrator({
  database,
  middleware: [
    reportErrors({
      capture: (error, { name, attempt, actor }) =>
        console.log(`reported: ${name}, attempt ${attempt}, of ${actor}: ${(error as Error).message}`),
    }),
  ],
  handlers: [
    chargeCard.handle(({ attempt }) => {
      if (attempt < 3) throw new Error("the bank does not answer");
    }),
  ],
});

await orchestrator.migrate();
orchestrator.startWorker();
const { id } = await orchestrator.push(chargeCard(null, { metadata: { actor: { id: "ada", type: "user" } } }));
console.log(`ended: ${(await orchestrator.waitFor(id)).status}`);

await orchestrator.stop();
await database.close();
