import { afterAll, beforeAll, expect, test } from "vitest";
import { postgresJs } from "../adapters/postgres-js.ts";
import { createDatabase as createStatements } from "../src/database.ts";
import { type Definition, defineCommand } from "../src/define-command.ts";
import type { HandlerOptions } from "../src/handler.ts";
import { createRegistry } from "../src/registry.ts";
import { createDatabase, type Database } from "./database.ts";
import { createFakeClock } from "./fake-clock.ts";

let database: Database;
beforeAll(async () => {
  database = await createDatabase();
});
afterAll(() => database.drop());

const upgrade = (input: unknown) => input as undefined;

function handler(name: string, version: number, rest: Partial<Definition> = {}, options: HandlerOptions = {}) {
  return defineCommand({ ...rest, name, version } as { name: string }).handle(() => {}, options as never);
}

/** The version of the handler that would run a command of that version. */
function found(registry: ReturnType<typeof createRegistry>, name: string, version: number): number | undefined {
  return registry.find(name, version)?.contract.version;
}

test("find() takes the very version, else the nearest newer one that can upgrade", () => {
  const registry = createRegistry([
    handler("a", 5, { upgrade }),
    handler("a", 2),
    handler("a", 4, { upgrade }),
    handler("a", 3),
  ]);
  expect([1, 2, 3, 4, 5].map((version) => found(registry, "a", version))).toEqual([4, 2, 3, 4, 5]);
});

test("find() knows no newer version than it has, no other name, and nothing that cannot upgrade", () => {
  const registry = createRegistry([handler("a", 2), handler("b", 2, { upgrade })]);
  expect(found(registry, "a", 1)).toBeUndefined();
  expect(found(registry, "a", 3)).toBeUndefined();
  expect(found(registry, "b", 1)).toBe(2);
  expect(found(registry, "b", 3)).toBeUndefined();
  expect(found(registry, "c", 1)).toBeUndefined();
  expect(found(registry, "constructor", 1)).toBeUndefined();
});

const statements = () => createStatements(postgresJs(database.sql), "orchestratum", createFakeClock(), () => {});
const rows = (name: string) => database.sql`
  select h.version, h.hooks, h.queue, h.priority, h.max_attempts, h.timeout_ms, h.seen_at
  from orchestratum.handler h where h.name = ${name} order by h.version`;

test("register() tells the fleet names, versions, hooks and defaults", async () => {
  const hooks = { onFailure: () => {}, onCancellation: () => {}, onSuccess: () => {} };
  const defaults = { queue: "mail", priority: 2, retries: 7, timeoutMs: 5_000 };
  await createRegistry([handler("told", 1), handler("told", 3, defaults, hooks)]).register(statements());
  expect(await rows("told")).toEqual([
    {
      version: 1,
      hooks: [],
      queue: "default",
      priority: 5,
      max_attempts: 4,
      timeout_ms: 60_000,
      seen_at: expect.any(Date),
    },
    {
      version: 3,
      hooks: ["cancellation", "failure"],
      queue: "mail",
      priority: 2,
      max_attempts: 8,
      timeout_ms: 5_000,
      seen_at: expect.any(Date),
    },
  ]);
});

test("register() only ever adds hooks, since another worker may still have them", async () => {
  await createRegistry([handler("hooked", 1, {}, { onFailure: () => {} })]).register(statements());
  await createRegistry([handler("hooked", 1)]).register(statements());
  expect((await rows("hooked"))[0]?.hooks).toEqual(["failure"]);
  await createRegistry([handler("hooked", 1, {}, { onCancellation: () => {} })]).register(statements());
  expect((await rows("hooked"))[0]?.hooks).toEqual(["cancellation", "failure"]);
});

test("register() says that they are still there", async () => {
  const registry = createRegistry([handler("alive", 1)]);
  await registry.register(statements());
  await database.sql`update orchestratum.handler set seen_at = now() - interval '31 seconds' where name = 'alive'`;
  await registry.register(statements());
  const [row] = await database.sql`
    select h.seen_at > now() - interval '10 seconds' as fresh from orchestratum.handler h where h.name = 'alive'`;
  expect(row?.fresh).toBe(true);
});

test("register() without handlers says nothing and does not fail", async () => {
  await createRegistry([]).register(statements());
});
