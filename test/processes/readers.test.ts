/** Readers as processes that are killed, and that stand still: the projection has each event once, in the order of the log. */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import process from "node:process";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { afterEach, beforeEach, expect, test } from "vitest";
import { postgresJs } from "../../adapters/postgres-js.ts";
import { createOrchestrator, defineEvent, type Orchestrator } from "../../src/index.ts";
import { createDatabase, type Database } from "../database.ts";
import type { ReaderProcessOptions } from "./reader-process.ts";

const program = fileURLToPath(new URL("reader-process.ts", import.meta.url));
const leaseMs = 1_000;
const counted = defineEvent({ topic: "test.events.counted" });

let database: Database;
let orchestrator: Orchestrator;
const running = new Set<ChildProcess>();

beforeEach(async () => {
  database = await createDatabase({ max: 4 });
  orchestrator = createOrchestrator({ database: postgresJs(database.sql) });
  // Numbered in the order of writing: what is written twice, or out of order, shows.
  await database.sql`create table projected (written bigint generated always as identity, n int not null, by_whom text)`;
});

afterEach(async () => {
  await Promise.all(
    [...running].map(async (child) => {
      const exited = once(child, "exit");
      child.kill("SIGKILL");
      await exited;
    }),
  );
  await orchestrator.stop();
  await database.drop();
});

interface ReaderProcess {
  readonly child: ChildProcess;
  readonly said: { readonly type: string; readonly first?: number }[];
  end(signal: NodeJS.Signals): Promise<void>;
}

function start(name: string, options: Partial<ReaderProcessOptions> = {}): ReaderProcess {
  const given: ReaderProcessOptions = {
    url: database.url,
    name,
    reader: { leaseMs, pollIntervalMs: 50, batchSize: 7 },
    ...options,
  };
  const child = spawn(process.execPath, ["--import", "tsx", program, JSON.stringify(given)], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  running.add(child);
  child.once("exit", () => running.delete(child));
  const said: ReaderProcess["said"] = [];
  createInterface({ input: child.stdout as NodeJS.ReadableStream }).on("line", (line) => said.push(JSON.parse(line)));
  return {
    child,
    said,
    async end(signal) {
      if (child.exitCode !== null || child.signalCode !== null) return;
      const exited = once(child, "exit");
      child.kill(signal);
      await exited;
    },
  };
}

/** The numbers of the projection in the order in which they were written. */
const projected = async (): Promise<number[]> =>
  (await database.sql<{ n: number }[]>`select n from projected order by written`).map(({ n }) => n);

async function until(what: string, holds: () => boolean | Promise<boolean>, limitMs = 60_000): Promise<void> {
  const limit = performance.now() + limitMs;
  while (!(await holds())) {
    if (performance.now() > limit) throw new Error(`It did not come to hold that ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

const upTo = (count: number): number[] => Array.from({ length: count }, (_, index) => index + 1);

async function append(from: number, to: number): Promise<void> {
  for (let n = from; n <= to; n++) await orchestrator.append("numbers", counted({ n } as never));
}

test("readers that are killed leave a projection with each event once and in order", { timeout: 180_000 }, async () => {
  const names = ["one", "two", "three"];
  const processes = new Map(names.map((name) => [name, start(name)]));
  let last = 0;
  let kills = 0;
  for (let turn = 0; turn < 5; turn++) {
    await until("all are up", () =>
      [...processes.values()].every(({ said }) => said.some(({ type }) => type === "listening")),
    );
    await append(last + 1, last + 100);
    last += 100;
    // It is killed in the middle of them, or while it waits.
    await until("somebody reads", async () => (await projected()).length >= last - 60);
    const [state] = await orchestrator.readers();
    const holder = names.find((name) => state?.holder?.startsWith(`${name}-`));
    if (holder === undefined) continue;
    await processes.get(holder)?.end("SIGKILL");
    kills++;
    const others = names.filter((name) => name !== holder);
    await until(
      "another one takes over soon after the lease",
      async () => {
        const [now] = await orchestrator.readers();
        return others.some((name) => now?.holder?.startsWith(`${name}-`));
      },
      leaseMs + 5_000,
    );
    processes.set(holder, start(holder));
  }
  expect(kills).toBeGreaterThan(2);
  await until("all have been read", async () => (await projected()).length >= last);
  expect(await projected()).toEqual(upTo(last));
  await until("the list says so", async () => (await orchestrator.readers())[0]?.lag === 0);
  const [state] = await orchestrator.readers();
  expect(state).toMatchObject({ failures: 0, lastError: undefined });
});

test("a reader that stands still between its checkpoint and its COMMIT writes nothing, and another one goes on", {
  timeout: 180_000,
}, async () => {
  // Longer than what goes on may stand still by itself: then the first would take over again.
  const reader = { leaseMs: 5_000, pollIntervalMs: 50, batchSize: 7 };
  await append(1, 3);
  const first = start("first", { freezeAt: 5, reader });
  await until("the first has begun", async () => (await projected()).length === 3);
  await append(4, 6);
  await until("it stands still", () => first.said.some(({ type, first: n }) => type === "batch" && n !== 1));
  const second = start("second", { reader });
  await until("the second goes on", async () => (await projected()).length === 6);
  const rows = await database.sql<{ n: number; by_whom: string }[]>`select n, by_whom from projected order by written`;
  expect(rows.filter(({ n }) => n >= 5).map(({ by_whom }) => by_whom)).toEqual(["second", "second"]);
  const before = await orchestrator.readers();
  first.child.kill("SIGCONT");
  await until("the first has heard", () => first.said.some(({ type }) => /^reader_(lease_lost|failed)$/.test(type)));
  await append(7, 8);
  await until("the second goes on", async () => (await projected()).length === 8);
  expect(await projected()).toEqual(upTo(8));
  expect((await orchestrator.readers())[0]?.holder).toBe(before[0]?.holder);
  await second.end("SIGTERM");
  expect(second.child.exitCode).toBe(0);
  await until("it is free", async () => !(await orchestrator.readers())[0]?.holder?.startsWith("second"));
});
