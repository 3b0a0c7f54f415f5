/**
 * A chain of commands: an order is reserved, charged and shipped, each step following from the one before. It shows
 * what happens where a step fails for a time (it is retried), fails for good (`onFailure` compensates) and is cancelled
 * (`onCancellation` does). `npx tsx examples/chain.ts`
 */
import { createOrchestrator, defineCommands, PermanentFailure } from "orchestratum";
import { pglite } from "orchestratum/pglite";
import * as v from "valibot";

const order = v.object({ order: v.string(), card: v.string() });

const { reserveStock, chargeCard, shipOrder, releaseStock } = defineCommands({
  reserveStock: { input: order },
  chargeCard: { input: order, output: v.object({ receipt: v.string() }), backoff: { initialMs: 50 } },
  shipOrder: { input: v.object({ order: v.string(), receipt: v.string() }) },
  releaseStock: { input: v.object({ order: v.string(), why: v.string() }) },
});

/** Resolves when the last command of each order's chain has run. */
const ended = new Map<string, () => void>();
const endOf = (name: string) => new Promise<void>((resolve) => ended.set(name, resolve));

const database = await pglite();
const orchestrator = createOrchestrator({
  database,
  observe: (observation) => {
    if (observation.type === "log") console.log(observation.message);
    if (observation.type === "command_finished" && observation.verdict === "retry") {
      console.log(`  attempt ${observation.attempt} failed (${observation.error?.message}), tried again`);
    }
  },
  handlers: [
    reserveStock.handle(({ input, logger }) => logger.info(`${input.order}: stock is reserved`), {
      onSuccess: ({ input }) => chargeCard(input, input.card === "slow" ? { delayMs: 3_600_000 } : {}),
    }),
    chargeCard.handle(
      ({ input, attempt, logger }) => {
        if (input.card === "stolen") throw new PermanentFailure("the card is stolen"); // no other attempt
        if (input.card === "shaky" && attempt < 3) throw new Error("the bank does not answer");
        logger.info(`${input.order}: the card is charged, at attempt ${attempt}`);
        return { receipt: `receipt of ${input.order}` };
      },
      {
        onSuccess: ({ input, output }) => shipOrder({ order: input.order, receipt: output.receipt }),
        // Where the input cannot be read any more there is nothing to go by: rawInput has it as it was pushed.
        onFailure: ({ input, error }) =>
          input && releaseStock({ order: input.order, why: error?.message ?? "it failed" }),
        onCancellation: ({ input }) => input && releaseStock({ order: input.order, why: "it was cancelled" }),
      },
    ),
    shipOrder.handle(({ input, logger }) => {
      logger.info(`${input.order}: shipped, with the ${input.receipt}`);
      ended.get(input.order)?.();
    }),
    releaseStock.handle(({ input, logger }) => {
      logger.info(`${input.order}: stock is released, since ${input.why}`);
      ended.get(input.order)?.();
    }),
  ],
});

await orchestrator.migrate();
orchestrator.startWorker();

for (const [name, card] of [
  ["order 1", "good"],
  ["order 2", "shaky"],
  ["order 3", "stolen"],
] as const) {
  const chain = endOf(name);
  await orchestrator.push(reserveStock({ order: name, card }));
  await chain;
}

// Order 4 is to be charged in an hour, and is cancelled before that.
const chain = endOf("order 4");
const { id } = await orchestrator.push(reserveStock({ order: "order 4", card: "slow" }));
await orchestrator.waitFor(id);
const [scheduled] = await database.query<{ id: string }>(
  "select a.id::text as id from orchestratum.all_commands a where a.parent_id = $1::uuid",
  [id],
);
if (scheduled) console.log(`order 4: its charge is ${await orchestrator.cancel(scheduled.id)}`);
await chain;

await orchestrator.stop();
await database.close();
