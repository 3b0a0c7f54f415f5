/** `npm run bench`: what Orchestratum's speed is, beside that of others in the same run. NOTES.md explains it. */
import { availableParallelism, loadavg } from "node:os";
import process from "node:process";
import { parseArgs } from "node:util";
import { drain } from "./drain.ts";
import { events } from "./events.ts";
import { isMet, type Ratio } from "./figures.ts";
import { type Ground, installPeers, prepareGround } from "./ground.ts";
import { history } from "./history.ts";
import { http } from "./http.ts";
import { latency } from "./latency.ts";
import { endPrograms } from "./program.ts";
import { showProgress } from "./progress.ts";
import { runtimes } from "./runtimes.ts";
import { snapshot } from "./snapshot.ts";
import { telemetry } from "./telemetry.ts";

const usage = `Measures Orchestratum beside graphile-worker and beside SQL written by hand.

Usage: npm run bench -- [benchmark …] [options]

Benchmarks (all of them where none is named):
  drain      100,000 preloaded commands by one worker process
  latency    from the reply to a push to the handler's start
  snapshot   claims while another session holds a snapshot open
  events     published, delivered, appended, placed and read; only where it is named
  http       pushes and questions over HTTP beside those in process, and 1,000 open event streams; only where it is named
  runtimes   the same drain on Node.js, Deno, Bun and workerd; only where it is named
  telemetry  the CPU that observing costs a worker: observers, logTo, OpenTelemetry; only where it is named
  history    get, list, timeline and stats with ten million finished commands beside ten thousand; only where it is
             named, since it writes them first: minutes, and some gigabytes of disk

Options:
  --rounds <n>      how often each is measured (drain and telemetry 5, snapshot 1, the others 3)
  --every-setting   drain: try every setting, not only the fastest
  --history <n>     history: how many have finished, 100,000 to 100,000,000 (10,000,000); names that benchmark, too
  --help            show this

It starts its own PostgreSQL, with durable settings, and installs bench/peers when that is missing.

Examples:
  npm run bench
  npm run bench -- drain --rounds 9
  npm run bench -- drain --every-setting --rounds 3
  npm run bench -- latency snapshot
  npm run bench -- events http
  npm run bench -- telemetry --rounds 9
  npm run bench -- --history 10000000`;

type Name = "drain" | "latency" | "snapshot" | "events" | "http" | "runtimes" | "telemetry" | "history";
type Benchmark = (ground: Ground, options: { everySetting: boolean; count?: number }) => Promise<Ratio[]>;
const benchmarks: Readonly<Record<Name, Benchmark>> = {
  ...{ drain, latency, snapshot },
  ...{ events, http, runtimes, telemetry, history },
};
const defaultRounds: Readonly<Record<Name, number>> = {
  ...{ drain: 5, latency: 3, snapshot: 1 },
  ...{ events: 3, http: 3, runtimes: 3, telemetry: 5, history: 3 },
};
/** Those that run where none is named. */
const usual: readonly Name[] = ["drain", "latency", "snapshot"];

class UsageError extends Error {}

function readArguments(args: string[]) {
  const options = {
    rounds: { type: "string" },
    history: { type: "string" },
    "every-setting": { type: "boolean", default: false },
    help: { type: "boolean", short: "h", default: false },
  } as const;
  let parsed: ReturnType<typeof parseArgs<{ options: typeof options; allowPositionals: true }>>;
  try {
    parsed = parseArgs({ args, options, allowPositionals: true });
  } catch (error) {
    throw new UsageError((error as Error).message, { cause: error });
  }
  const { values, positionals } = parsed;
  const unknown = positionals.find((name) => !Object.hasOwn(benchmarks, name));
  if (unknown !== undefined) {
    throw new UsageError(`Cannot run benchmark "${unknown}": there are ${Object.keys(benchmarks).join(", ")}`);
  }
  const rounds = values.rounds === undefined ? undefined : Number(values.rounds);
  if (rounds !== undefined && !(Number.isInteger(rounds) && rounds >= 1 && rounds <= 100)) {
    throw new UsageError(`Cannot run "${values.rounds}" rounds: a number from 1 to 100 is wanted`);
  }
  const count = values.history === undefined ? undefined : Number(values.history);
  if (count !== undefined && !(Number.isInteger(count) && count >= 100_000 && count <= 100_000_000)) {
    throw new UsageError(
      `Cannot write a history of "${values.history}": a number from 100,000 to 100,000,000 is wanted`,
    );
  }
  const named = count === undefined ? positionals : [...positionals, "history"];
  const names = (Object.keys(benchmarks) as Name[]).filter((name) => {
    return named.length === 0 ? usual.includes(name) : named.includes(name);
  });
  return { names, rounds, count, everySetting: values["every-setting"], help: values.help };
}

async function main(): Promise<void> {
  const { names, rounds, count, everySetting, help } = readArguments(process.argv.slice(2));
  if (help) return console.log(usage);
  installPeers();
  const progress = showProgress();
  const ratios: Ratio[] = [];
  try {
    for (const name of names) {
      // A server for each: what one leaves behind is no burden to the next.
      await using ground = await prepareGround(rounds ?? defaultRounds[name], progress);
      const [version] = await ground.sql`show server_version`;
      progress.say(`${name}: PostgreSQL ${version?.server_version}, ${availableParallelism()} cores, load ${load()}`);
      ratios.push(...(await benchmarks[name](ground, { everySetting, ...(count === undefined ? {} : { count }) })));
    }
  } finally {
    endPrograms();
    progress.stop();
  }
  console.log(table(ratios));
  console.log("\nRatios of medians within one run; no figure here says what another machine would do.");
}

const load = () => loadavg()[0]?.toFixed(1);

function table(ratios: readonly Ratio[]): string {
  const rows = ratios.map((each) => {
    const { what, ratio, range, wanted } = each;
    const spread = range && range[0] !== range[1] ? `${range[0].toFixed(2)} to ${range[1].toFixed(2)}` : "";
    const limit = wanted ? ("atLeast" in wanted ? `at least ${wanted.atLeast}` : `at most ${wanted.atMost}`) : "";
    const met = isMet(each);
    return [what, ratio.toFixed(2), spread, limit, met === undefined ? "" : met ? "yes" : "NO"];
  });
  const all = [["", "ratio", "rounds", "wanted", "met"], ...rows];
  const widths = (all[0] as string[]).map((_, column) => Math.max(...all.map((row) => row[column]?.length ?? 0)));
  return all
    .map((row) =>
      row
        .map((cell, column) => cell.padEnd(widths[column] as number))
        .join("  ")
        .trimEnd(),
    )
    .join("\n");
}

try {
  await main();
} catch (error) {
  if (!(error instanceof UsageError)) throw error;
  console.error(`${error.message}\n\nSee npm run bench -- --help`);
  process.exitCode = 2;
}
