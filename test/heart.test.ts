import { expect, test } from "vitest";
import { postgresJs } from "../adapters/postgres-js.ts";
import { createOrchestrator, defineCommand, type Observation } from "../src/index.ts";
import { createDatabase } from "./database.ts";
import { calls, type Fault, faulty } from "./faulty-driver.ts";
import { outliveLease } from "./outlive-lease.ts";

test("a heartbeat that is refused for its progress goes again without any, and no lease is lost", async () => {
  await using database = await createDatabase({ max: 4 });
  const heartbeat = calls("heartbeat");
  let refused = 0;
  const refusing: Fault = {
    before(text, params) {
      if (!heartbeat.test(text) || !String(params[1]).includes('"progress"')) return;
      refused++;
      throw Object.assign(new Error("unsupported Unicode escape sequence"), { code: "22P05" });
    },
  };
  const observations: Observation[] = [];
  const leaseMs = 30_000;
  const long = defineCommand({ name: "long" });
  const orchestrator = createOrchestrator({
    database: faulty(postgresJs(database.sql), refusing),
    handlers: [
      long.handle((context) => {
        // It goes at once.
        context.progress({ step: 1 });
        return outliveLease(database.sql, leaseMs, context);
      }),
    ],
    observe: (observation) => void observations.push(observation),
  });
  const worker = orchestrator.startWorker({ leaseMs });
  await worker.started;
  const { id } = await orchestrator.push(long());
  expect(await orchestrator.waitFor(id, { timeoutMs: 30_000 })).toMatchObject({ status: "succeeded" });
  expect(await orchestrator.get(id)).toMatchObject({ fence: 1, losses: 0 });
  expect(refused).toBe(1);
  const told = observations.filter(({ type }) => type === "database_trouble");
  expect(told).toMatchObject([{ operation: "heartbeat", error: { code: "22P05" } }]);
  await orchestrator.stop();
});
