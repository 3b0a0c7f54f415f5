/**
 * Drain: 100,000 preloaded commands with a handler that does nothing, by one worker process. Each round gives every
 * contestant its turn, beginning with another one each time, and the ratios are taken within the round.
 */
import { postgresJs } from "../adapters/postgres-js.ts";
import { createOrchestrator, defineCommand, type WorkerOptions } from "../src/index.ts";
import { median, type Ratio, ratioOfRounds } from "./figures.ts";
import { clear, type Ground } from "./ground.ts";
import { startProgram } from "./program.ts";
import type { Taken } from "./programs/parent.ts";
import { serverCpuSeconds } from "./server-cpu.ts";

const count = 100_000;
const limitMs = 90_000;

interface Contestant {
  readonly name: string;
  readonly kind: "orchestratum" | "hand-written" | "graphile-worker";
  readonly program: string;
  readonly args: readonly string[];
  preload(ground: Ground): Promise<void>;
}

/** One worker each of a process. */
function orchestratum(...workers: WorkerOptions[]): Contestant {
  const settings = workers.map(({ concurrency, maxClaim }) => `${concurrency}/${maxClaim}`).join(" + ");
  return {
    name: `orchestratum, concurrency/maxClaim ${settings}`,
    kind: "orchestratum",
    program: "programs/drain-orchestratum.ts",
    args: [JSON.stringify(workers)],
    preload: preloadCommands,
  };
}

function handWritten(batch: number, claimers: number): Contestant {
  return {
    name: `hand-written, ${claimers} × ${batch}`,
    kind: "hand-written",
    program: "programs/drain-hand-written.ts",
    args: [String(batch), String(claimers)],
    preload: preloadCommands,
  };
}

const graphileWorker: Contestant = {
  name: "graphile-worker, 24 jobs, local queue 500, batch completion",
  kind: "graphile-worker",
  program: "peers/drain-graphile-worker.mjs",
  args: [],
  preload: preloadJobs,
};

/** What came out fastest of `all` (see NOTES.md). */
const fastest = [
  orchestratum({ concurrency: 4_000, maxClaim: 1_000 }),
  orchestratum({ concurrency: 1_000, maxClaim: 500 }, { concurrency: 1_000, maxClaim: 500 }),
  handWritten(500, 2),
  handWritten(1_000, 2),
  graphileWorker,
];

const all = [
  orchestratum({ concurrency: 500, maxClaim: 500 }),
  orchestratum({ concurrency: 1_000, maxClaim: 500 }),
  orchestratum({ concurrency: 2_000, maxClaim: 500 }),
  orchestratum({ concurrency: 2_000, maxClaim: 1_000 }),
  orchestratum({ concurrency: 4_000, maxClaim: 1_000 }),
  orchestratum({ concurrency: 500, maxClaim: 500 }, { concurrency: 500, maxClaim: 500 }),
  orchestratum({ concurrency: 1_000, maxClaim: 500 }, { concurrency: 1_000, maxClaim: 500 }),
  orchestratum({ concurrency: 2_000, maxClaim: 1_000 }, { concurrency: 2_000, maxClaim: 1_000 }),
  handWritten(500, 1),
  handWritten(500, 2),
  handWritten(500, 3),
  handWritten(1_000, 1),
  handWritten(1_000, 2),
  handWritten(1_000, 3),
  graphileWorker,
];

export async function drain(ground: Ground, { everySetting = false } = {}): Promise<Ratio[]> {
  const { progress, rounds, url } = ground;
  const contestants = everySetting ? all : fastest;
  progress.expect(rounds * contestants.length);
  const rates = new Map<Contestant, number[]>(contestants.map((each) => [each, []]));
  const costs = new Map<Contestant, number[]>(contestants.map((each) => [each, []]));
  for (let round = 0; round < rounds; round++) {
    const shift = round % contestants.length;
    for (const contestant of [...contestants.slice(shift), ...contestants.slice(0, shift)]) {
      progress.step(`drain, round ${round + 1}: ${contestant.name}`);
      await contestant.preload(ground);
      const { program, args } = contestant;
      const before = await serverCpuSeconds(ground.sql);
      const taken = (await startProgram(program, [url, String(count), ...args], limitMs).result) as Taken;
      const after = await serverCpuSeconds(ground.sql);
      await requireDrained(ground, contestant);
      const rate = count / taken.seconds;
      rates.get(contestant)?.push(rate);
      const client = taken.cpuSeconds;
      const server = before === undefined || after === undefined ? 0 : after - before;
      costs.get(contestant)?.push(client + server);
      const cpu = `${client.toFixed(1)} + ${server.toFixed(1)} s of CPU`;
      progress.say(`${contestant.name}: ${Math.round(rate)}/s, client and server ${cpu}`);
    }
  }
  for (const [contestant, each] of rates) {
    const cost = median(costs.get(contestant) as number[]).toFixed(1);
    progress.say(`median ${Math.round(median(each))}/s, ${cost} s of CPU: ${contestant.name}`);
  }

  const best = (kind: Contestant["kind"]): Contestant => {
    const ofKind = contestants.filter((contestant) => contestant.kind === kind);
    return ofKind.reduce((a, b) => (median(rates.get(b) as number[]) > median(rates.get(a) as number[]) ? b : a));
  };
  const over = (figures: ReadonlyMap<Contestant, number[]>, kind: Contestant["kind"]): number[] => {
    const others = figures.get(best(kind)) as number[];
    return (figures.get(best("orchestratum")) as number[]).map((figure, round) => figure / (others[round] as number));
  };
  return [
    ratioOfRounds("drain: orchestratum / graphile-worker", over(rates, "graphile-worker"), { atLeast: 1.2 }),
    ratioOfRounds("drain: orchestratum / hand-written", over(rates, "hand-written"), { atLeast: 0.7 }),
    ratioOfRounds("drain, CPU seconds: orchestratum / graphile-worker", over(costs, "graphile-worker")),
    ratioOfRounds("drain, CPU seconds: orchestratum / hand-written", over(costs, "hand-written")),
  ];
}

async function preloadCommands(ground: Ground): Promise<void> {
  await clear(ground);
  // As a program would, by the library: its ids are in order of time, and random ones would cost more.
  const noop = defineCommand({ name: "noop" });
  const orchestrator = createOrchestrator({ database: postgresJs(ground.sql), commands: [noop] });
  for (let i = 0; i < count; i += 10_000) {
    await orchestrator.push(Array.from({ length: 10_000 }, (_, j) => noop({ i: i + j })));
  }
  await orchestrator.stop();
  await ground.sql`vacuum analyze orchestratum.command`;
  await ground.sql`checkpoint`;
}

async function preloadJobs({ sql }: Ground): Promise<void> {
  await sql`truncate graphile_worker._private_jobs`;
  // In batches: a hundred thousand calls of add_job in one statement did not come back.
  for (let i = 0; i < count; i += 1_000) {
    await sql`
      select count(*)
      from graphile_worker.add_jobs(array(
        select row('noop', json_build_object('i', i), null, null, null, null, null, null)::graphile_worker.job_spec
        from generate_series(${i}::int, ${i + 999}::int) i
      ))`;
  }
  await sql`vacuum analyze graphile_worker._private_jobs`;
  await sql`checkpoint`;
}

/** A contestant that says it is done and is not would be the fastest. */
async function requireDrained({ sql }: Ground, { kind, name }: Contestant): Promise<void> {
  const [row] =
    kind === "graphile-worker"
      ? await sql`select count(*)::int as live, ${count}::int as finished from graphile_worker._private_jobs`
      : await sql`
          select
            (select count(*)::int from orchestratum.command) as live,
            (select count(*)::int from orchestratum.history where status = 'succeeded') as finished`;
  if (row?.live !== 0 || row.finished !== count) {
    throw new Error(`Cannot count ${name}: ${row?.live} are left and ${row?.finished} finished of ${count}`);
  }
}
