import { expect, test } from "vitest";
import { postgresJs } from "../adapters/postgres-js.ts";
import { createOrchestrator, defineCommand, type Observation } from "../src/index.ts";
import { signal } from "./conformance.ts";
import { createDatabase } from "./database.ts";

test("finish() leaves nothing behind of an outcome whose lease is lost, its follow-ups among it", async () => {
  await using database = await createDatabase({ max: 4 });
  const lost = signal<Observation>();
  const job = defineCommand({ name: "job" });
  const next = defineCommand({ name: "next" });
  const orchestrator = createOrchestrator({
    database: postgresJs(database.sql),
    commands: [next],
    handlers: [
      job.handle(
        async ({ id, push }) => {
          push(next(1));
          // Somebody else takes it while the handler does not look.
          await database.sql`
            update orchestratum.command set fence = fence + 1, leased_by = 'another' where id = ${id}`;
        },
        { onSuccess: () => next(2) },
      ),
    ],
    observe: (observation) => {
      if (observation.type === "lease_lost") lost.give(observation);
    },
  });
  await orchestrator.startWorker().started;
  const { id } = await orchestrator.push(job());
  expect(await lost.got()).toMatchObject({ id, fence: 1, reason: "taken" });
  expect(await database.sql`select name, status, fence from orchestratum.all_commands`).toEqual([
    { name: "job", status: "running", fence: 2 },
  ]);
  await orchestrator.stop({ graceMs: 0 });
});
