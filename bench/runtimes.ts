/**
 * Runtimes: the same preloaded commands with a handler that does nothing, by one worker process on Node.js, Deno and Bun,
 * each with postgres.js, on Bun also with its own client; and by one tick in workerd. `npm run test:matrix` installs them.
 */
import { fileURLToPath } from "node:url";
import { postgresJs } from "../adapters/postgres-js.ts";
import { createOrchestrator, defineCommand } from "../src/index.ts";
import { startWorkerd } from "../test/matrix/miniflare.ts";
import { runners } from "../test/matrix/runtimes.ts";
import { median, type Ratio, ratioOfRounds } from "./figures.ts";
import { clear, type Ground } from "./ground.ts";
import { node, startProgram } from "./program.ts";
import type { Taken } from "./programs/parent.ts";

const count = 50_000;
const limitMs = 120_000;
const worker = { concurrency: 2_000, maxClaim: 500 };

/** Seconds from the worker's start until the last outcome is recorded. */
type Contestant = (url: string) => Promise<number>;

const byProgram =
  (command: readonly string[], program = "programs/drain-orchestratum.ts"): Contestant =>
  async (url) => {
    const args = [url, String(count), JSON.stringify([worker])];
    return ((await startProgram(program, args, limitMs, command).result) as Taken).seconds;
  };

async function inWorkerd(url: string): Promise<number> {
  const file = fileURLToPath(new URL("programs/drain-edge.ts", import.meta.url));
  await using workerd = await startWorkerd(file, { bindings: { DATABASE_URL: url } });
  const begun = performance.now();
  const answer = await workerd.dispatchFetch("http://workerd/", {
    method: "POST",
    body: JSON.stringify({ ...worker, count }),
  });
  if (!answer.ok) throw new Error(`Cannot measure workerd: ${await answer.text()}`);
  await answer.text();
  return (performance.now() - begun) / 1000;
}

const contestants: Readonly<Record<string, Contestant>> = {
  "Node.js": byProgram([node]),
  Deno: byProgram(runners.deno?.(["--allow-all"]) ?? []),
  Bun: byProgram(runners.bun?.([]) ?? []),
  "Bun, Bun.SQL": byProgram(runners.bun?.([]) ?? [], "programs/drain-bun-sql.ts"),
  workerd: inWorkerd,
};

export async function runtimes(ground: Ground): Promise<Ratio[]> {
  const { progress, rounds, url, sql } = ground;
  const names = Object.keys(contestants);
  progress.expect(rounds * names.length);
  const rates = new Map<string, number[]>(names.map((name) => [name, []]));
  for (let round = 0; round < rounds; round++) {
    const shift = round % names.length;
    for (const name of [...names.slice(shift), ...names.slice(0, shift)]) {
      progress.step(`runtimes, round ${round + 1}: ${name}`);
      await preload(ground);
      const seconds = await (contestants[name] as Contestant)(url);
      const [row] = await sql`select count(*)::int as finished from orchestratum.history where status = 'succeeded'`;
      if (row?.finished !== count) throw new Error(`Cannot count ${name}: ${row?.finished} finished of ${count}`);
      rates.get(name)?.push(count / seconds);
      progress.say(`${name}: ${Math.round(count / seconds)}/s`);
    }
  }
  for (const [name, each] of rates) progress.say(`median ${Math.round(median(each))}/s: ${name}`);
  const base = rates.get("Node.js") as number[];
  return names.slice(1).map((name) => {
    const ratios = (rates.get(name) as number[]).map((rate, round) => rate / (base[round] as number));
    return ratioOfRounds(`runtimes: ${name} / Node.js`, ratios);
  });
}

async function preload(ground: Ground): Promise<void> {
  await clear(ground);
  const noop = defineCommand({ name: "noop" });
  const orchestrator = createOrchestrator({ database: postgresJs(ground.sql), commands: [noop] });
  for (let i = 0; i < count; i += 10_000) {
    await orchestrator.push(Array.from({ length: 10_000 }, (_, j) => noop({ i: i + j })));
  }
  await orchestrator.stop();
  await ground.sql`vacuum analyze orchestratum.command`;
  await ground.sql`checkpoint`;
}
