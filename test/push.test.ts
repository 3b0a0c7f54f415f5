/** What pushing, publishing and appending come to where no database answers. */
import { Pool } from "pg";
import postgres from "postgres";
import { expect, test } from "vitest";
import { nodePostgres } from "../adapters/node-postgres.ts";
import { postgresJs } from "../adapters/postgres-js.ts";
import {
  createOrchestrator,
  type Driver,
  defineCommand,
  defineEvent,
  type Observation,
  type Orchestrator,
} from "../src/index.ts";
import { hurriedClock } from "./hurried-clock.ts";

const command = defineCommand({ name: "c" });
const event = defineEvent({ topic: "e" });

/** Nobody listens there. */
const nowhere = "postgres://127.0.0.1:1/x";
const times = 10;

const writes: [name: string, write: (orchestrator: Orchestrator) => Promise<unknown>][] = [
  ["push", ({ push }) => push(command())],
  ["publish", ({ publish }) => publish(event())],
  ["append", ({ append }) => append("s", event())],
];

/** What it rejects with, after how many seconds of the orchestrator's clock, and the database's troubles on the way. */
async function failureOf(database: Driver, write: (orchestrator: Orchestrator) => Promise<unknown>) {
  const clock = hurriedClock(times);
  const troubles: Observation[] = [];
  const orchestrator = createOrchestrator({
    database,
    clock,
    observe: (observation) => {
      if (observation.type === "database_trouble") troubles.push(observation);
    },
  });
  const began = clock.now();
  const error = (await write(orchestrator).catch((thrown: unknown) => thrown)) as Error;
  return { error, seconds: (clock.now() - began) / 1_000, troubles };
}

test.each(writes)("%s() tries for ten seconds where there is no server, and tells why", async (_, write) => {
  for (const database of [postgresJs(nowhere), nodePostgres(nowhere)]) {
    const { error, seconds, troubles } = await failureOf(database, write);
    expect(troubles.length).toBeGreaterThan(0);
    expect(error.message).toContain("connect ECONNREFUSED 127.0.0.1:1");
    expect(seconds).toBeGreaterThan(9);
    // Each of them is a tenth of a real one, and the machine may be busy.
    expect(seconds).toBeLessThan(20);
    await database.close({ timeoutMs: 0 });
  }
});

test.each(writes)("%s() is not tried again on a pool that was ended", async (_, write) => {
  const sql = postgres(nowhere);
  const pool = new Pool({ connectionString: nowhere });
  await Promise.all([sql.end(), pool.end()]);
  for (const database of [postgresJs(sql), nodePostgres(pool)]) {
    const { error, troubles } = await failureOf(database, write);
    expect(error.message).toBe("Cannot run a statement: its pool was ended");
    // Whatever is tried again is told of.
    expect(troubles).toEqual([]);
  }
});

test("publish() says that an event is wanted before it looks at the options", async () => {
  const database = postgresJs(nowhere);
  const { publish } = createOrchestrator({ database });
  await expect(publish("placed" as never, { orderId: "o" } as never)).rejects.toThrow(
    'Cannot publish: an event is what a contract of events answers, got "placed"',
  );
  await expect(publish(event as never, { orderId: "o" } as never)).rejects.toThrow("a contract that nobody called");
  await database.close();
});

test("push() says that a command is wanted, and how one is made, before it looks at the options", async () => {
  const database = postgresJs(nowhere);
  const { push } = createOrchestrator({ database });
  await expect(push("greet2" as never, { name: "x" } as never)).rejects.toThrow(
    'Cannot push: a command, or a list of commands, is wanted, got "greet2": call a contract with an input, as `push(defineCommand({ name: "a" })(input))` does',
  );
  await expect(push(command as never, { name: "x" } as never)).rejects.toThrow("got a contract: call it with an input");
  await database.close();
});
