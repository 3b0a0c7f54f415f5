import { createOrchestrator, defineCommand } from "orchestratum";
import { postgresJs } from "orchestratum/postgres-js";
import { expect, test, vi } from "vitest";
import { createDatabase } from "../database.ts";
import { startWorkerd } from "./miniflare.ts";
import { type Program, runtimes, startProgram } from "./runtimes.ts";

const example = "examples/anywhere/main.ts";
const greet = defineCommand({ name: "greet" });

test("Node.js, Deno, Bun and workerd drain one queue together from one source file, each a share, each command once", async () => {
  await using database = await createDatabase({ max: 4 });
  const programs: Program[] = [];
  try {
    for (const runtime of runtimes) {
      programs.push(
        startProgram(runtime, example, {
          env: { DATABASE_URL: database.url, PORT: "0" },
          permissions: [`--allow-net=${new URL(database.url).host},127.0.0.1:0`, "--allow-env=DATABASE_URL,PORT,PG*"],
        }),
      );
    }
    await using workerd = await startWorkerd(example, { bindings: { DATABASE_URL: database.url } });
    const edge = await workerd.getWorker();
    await vi.waitFor(
      async () => expect(await database.sql`select 1 from orchestratum.worker`).toHaveLength(runtimes.length),
      { timeout: 60_000, interval: 100 },
    );

    const orchestrator = createOrchestrator({ database: postgresJs(database.sql), commands: [greet] });
    const shares = () => database.sql<{ by: string; count: number }[]>`
      select output ->> 'by' as by, count(*)::int from orchestratum.history group by 1 order by 1`;
    const live = async () =>
      (await orchestrator.counts({ finished: false })).reduce((sum, { count }) => sum + count, 0);
    const tick = async () => expect(await edge.scheduled({ cron: "* * * * *" })).toMatchObject({ outcome: "ok" });
    const batch = 1_000;
    let pushed = 0;
    let seen: string[] = [];
    // As many as it takes: how soon each of them gets to work depends on the machine.
    while (seen.length < runtimes.length + 1) {
      if ((await live()) < batch) {
        await orchestrator.push(Array.from({ length: batch }, (_, i) => greet({ name: `${pushed + i}` })));
        pushed += batch;
      }
      await tick();
      seen = (await shares()).map(({ by }) => by);
    }
    while ((await live()) > 0) await tick();
    expect(seen).toEqual(["bun", "deno", "node", "workerd"]);
    // Once each: one row, and one lease that was never repeated.
    expect([
      ...(await database.sql`
        select count(*)::int as rows, count(distinct id)::int as ids, max(fence)::int as fence, min(status) as first, max(status) as last
        from orchestratum.history`),
    ]).toEqual([{ rows: pushed, ids: pushed, fence: 1, first: "succeeded", last: "succeeded" }]);
    await orchestrator.stop();

    for (const { child } of programs) child.kill("SIGTERM");
    expect(await Promise.all(programs.map(({ ended }) => ended))).toEqual([0, 0, 0]);
  } finally {
    for (const program of programs) await program[Symbol.asyncDispose]();
  }
}, 180_000);
