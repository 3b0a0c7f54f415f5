/** A worker as a process, on each runtime that has processes. */
import { createOrchestrator, defineCommand } from "orchestratum";
import { postgresJs } from "orchestratum/postgres-js";
import { afterAll, afterEach, beforeAll, describe, expect, test, vi } from "vitest";
import { createDatabase, type Database } from "../database.ts";
import { deaf } from "./commands/deaf.ts";
import { lock } from "./commands/hold.ts";
import { otherNodes, type Program, runtimes, startProgram } from "./runtimes.ts";

const hold = defineCommand({ name: "hold", timeoutMs: 600_000, retries: 5 });

const token = "token-of-the-test-0123456789";
const headers = { Authorization: `Bearer ${token}`, "Content-Type": "application/json" };

let database: Database;
beforeAll(async () => {
  database = await createDatabase({ max: 4 });
});
afterAll(() => database.drop());

const programs: Program[] = [];
afterEach(async () => {
  for (const program of programs.splice(0)) await program[Symbol.asyncDispose]();
});

/** With no other permission than docs/runtimes.md names. */
function startWorker(runtime: string, served: "health" | "router"): Program {
  const program = startProgram(runtime, "test/matrix/worker-program.ts", {
    args: [database.url, served, token],
    permissions: [
      `--allow-net=${new URL(database.url).host},127.0.0.1:0`,
      "--allow-env=PG*",
      // For handlersFrom().
      "--allow-read=test/matrix/commands",
    ],
  });
  programs.push(program);
  return program;
}

const addressOf = async (program: Program): Promise<string> =>
  (await program.said("listening ")).split(" ")[1] as string;

describe.each([...runtimes, ...otherNodes])("runWorker() on %s", (runtime) => {
  test("drains on the first signal, is not ready meanwhile, and ends with code 0", async () => {
    const orchestrator = createOrchestrator({ database: postgresJs(database.sql), commands: [hold] });
    const holder = await database.sql.reserve();
    await holder`select pg_advisory_lock(${lock}::bigint)`;
    const program = startWorker(runtime, "health");
    const address = await addressOf(program);
    const status = async (path: string) => (await fetch(address + path)).status;
    const { id } = await orchestrator.push(hold(database.url));
    await program.said("holding");
    expect([await status("/health/live"), await status("/health/ready"), await status("/")]).toEqual([200, 200, 404]);
    program.child.kill("SIGTERM");
    await vi.waitFor(async () => expect(await status("/health/ready")).toBe(503), { timeout: 20_000 });
    expect(await status("/health/live")).toBe(200);
    expect((await orchestrator.get(id))?.status).toBe("running");
    // What comes now is for others.
    const other = await orchestrator.push(hold(database.url));
    await holder`select pg_advisory_unlock(${lock}::bigint)`;
    holder.release();
    expect(await program.ended).toBe(0);
    expect(program.lines.at(-1)).toBe("ended");
    expect((await orchestrator.get(id))?.status).toBe("succeeded");
    expect(await orchestrator.get(other.id)).toMatchObject({ status: "pending", attempt: 0 });
    await orchestrator.cancel(other.id);
    await expect(status("/health/live")).rejects.toThrow();
    await orchestrator.stop();
  });

  test("hands back what it runs on the second signal, and ends with code 0", async () => {
    const orchestrator = createOrchestrator({ database: postgresJs(database.sql), commands: [hold] });
    const holder = await database.sql.reserve();
    await holder`select pg_advisory_lock(${lock}::bigint)`;
    const program = startWorker(runtime, "health");
    const address = await addressOf(program);
    const { id } = await orchestrator.push(hold(database.url));
    await program.said("holding");
    program.child.kill("SIGINT");
    await vi.waitFor(async () => expect((await fetch(`${address}/health/ready`)).status).toBe(503), {
      timeout: 20_000,
    });
    program.child.kill("SIGTERM");
    expect(await program.ended).toBe(0);
    expect(await orchestrator.get(id)).toMatchObject({ status: "pending", attempt: 0 });
    await orchestrator.cancel(id);
    await holder`select pg_advisory_unlock(${lock}::bigint)`;
    holder.release();
    await orchestrator.stop();
  });

  test("ends on the second signal, with code 0, although a handler goes on, after the caller has closed the database", async () => {
    const orchestrator = createOrchestrator({ database: postgresJs(database.sql), commands: [deaf] });
    const program = startWorker(runtime, "health");
    const address = await addressOf(program);
    const { id } = await orchestrator.push(deaf());
    await program.said("deaf");
    program.child.kill("SIGTERM");
    await vi.waitFor(async () => expect((await fetch(`${address}/health/ready`)).status).toBe(503), {
      timeout: 20_000,
    });
    program.child.kill("SIGTERM");
    await program.said("ended");
    expect(await orchestrator.get(id)).toMatchObject({ status: "pending", attempt: 0 });
    await orchestrator.cancel(id);
    expect(await program.ended).toBe(0);
    await orchestrator.stop();
  });

  test("serves a router, and says in the list of workers what it runs on", async () => {
    const program = startWorker(runtime, "router");
    const address = await addressOf(program);
    const pushed = await fetch(`${address}/commands`, {
      method: "POST",
      headers,
      body: JSON.stringify({ name: "hold", input: database.url }),
    });
    expect(pushed.status).toBe(202);
    const { id } = (await pushed.json()) as { id: string };
    const answer = await fetch(`${address}/commands/${id}`, { headers: { ...headers, Prefer: "wait=30" } });
    expect(await answer.json()).toMatchObject({ status: "succeeded" });
    const shown = otherNodes.includes(runtime) ? runtime.replace("node", "node ").concat(".%") : `${runtime} %`;
    const workers = await database.sql`
      select runtime from orchestratum.worker where stopped_at is null and runtime like ${shown}`;
    expect(workers).toHaveLength(1);
    program.child.kill("SIGTERM");
    expect(await program.ended).toBe(0);
  });
});
