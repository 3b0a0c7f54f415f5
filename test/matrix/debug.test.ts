import { spawn } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import process from "node:process";
import { createOrchestrator } from "orchestratum";
import { postgresJs } from "orchestratum/postgres-js";
import { afterAll, beforeAll, expect, test, vi } from "vitest";
import { createDatabase, type Database } from "../database.ts";
import { root, startWorkerd } from "./miniflare.ts";

const bin = join(root, "test/runtimes/node_modules/.bin");
const example = "examples/anywhere/debug.ts";

let database: Database;
beforeAll(async () => {
  database = await createDatabase({ max: 4 });
});
afterAll(() => database.drop());

function run(command: string, ...args: string[]): { readonly stop: () => Promise<number | null> } {
  const env = { ...process.env, DATABASE_URL: database.url };
  const child = spawn(command, [...args, example], { cwd: root, env, stdio: ["ignore", "inherit", "inherit"] });
  const exited = once(child, "exit");
  return {
    async stop() {
      child.kill("SIGTERM");
      const [code] = await exited;
      return code as number | null;
    },
  };
}

test("Node.js, Deno, Bun and workerd drain one queue together from one source file, each a share, each command once", async () => {
  const host = new URL(database.url).host;
  const processes = [
    run(process.execPath, "--import", "tsx"),
    // What the README promises: the database, the port, and the variables that the program itself reads.
    run(
      join(bin, "deno"),
      "run",
      "--quiet",
      "--no-lock",
      "--config=examples/deno.json",
      `--allow-net=${host},127.0.0.1:0`,
      "--allow-env",
    ),
    run(join(bin, "bun")),
  ];
  const workerd = await startWorkerd(example, { bindings: { DATABASE_URL: database.url } });
  const orchestrator = createOrchestrator({ database: postgresJs(database.sql) });
  const started = (): Promise<{ runtime: string }[]> => database.sql`select runtime from orchestratum.worker`;
  await vi.waitFor(async () => expect(await started()).toHaveLength(3), { timeout: 60_000, interval: 100 });

  const count = 2_400; console.log("push", Date.now()%100000);
  await database.sql`select orchestratum.push('greet', json_build_object('name', i::text)) from generate_series(1, ${count}::int) i`;
  const edge = await workerd.getWorker();
  const finished = async (): Promise<number> => {
    const rows = await database.sql<{ count: number }[]>`select count(*)::int from orchestratum.history`;
    return rows[0]?.count ?? 0;
  };
  while ((await finished()) < count)
    { console.log("call", Date.now()%100000); console.log(JSON.stringify(await edge.scheduled({ cron: "* * * * *" }))); }

  const shares = await database.sql<{ by: string; count: number }[]>`
    select output ->> 'by' as by, count(*)::int from orchestratum.history group by 1 order by 1`;
  await Promise.all(processes.map(({ stop }) => stop())); await workerd.dispose(); console.log(shares);
  expect(shares.map(({ by }) => by)).toEqual(["bun", "deno", "node", "workerd"]);
  // Once each: one row, and one lease that was never repeated.
  expect([
    ...(await database.sql`select count(distinct id)::int as ids, max(fence)::int as fence, min(status) as status, max(status) as last
      from orchestratum.history`),
  ]).toEqual([{ ids: count, fence: 1, status: "succeeded", last: "succeeded" }]);

  expect(await Promise.all(processes.map(({ stop }) => stop()))).toEqual([0, 0, 0]);
  await workerd.dispose();
  await orchestrator.stop();
}, 180_000);
