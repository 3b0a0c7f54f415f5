/**
 * HTTP: what the router costs beside the library in one's own process, and what open event streams take. The router, whoever
 * asks it and PostgreSQL share the processors, so the ratio of rates says less than that of CPU seconds, in which the
 * generator of the load does not count. Both sides take turns, and ratios are taken within the round.
 */
import { createServer } from "node:net";
import { postgresJs } from "../adapters/postgres-js.ts";
import { createOrchestrator } from "../src/index.ts";
import { median, type Ratio, ratioOfRounds } from "./figures.ts";
import { clear, type Ground } from "./ground.ts";
import { type Program, startProgram } from "./program.ts";
import { benchToken, type Doing, type Load, lanesOf, type ServerFigures } from "./programs/http-figures.ts";
import { measured } from "./programs/measured.ts";
import { pause } from "./programs/parent.ts";
import { serverCpuSeconds } from "./server-cpu.ts";

const seconds = 3;
const limitMs = 120_000;
const streams = 1_000;
/** What docs/http.md says that a stream may take, in KiB. */
const streamKiB = 64;
/** While nothing happens. */
const watchedMs = 10_000;

const doings: readonly { readonly doing: Doing; readonly named: string }[] = [
  { doing: "push", named: `pushes, one at a time in ${lanesOf.push} lanes` },
  { doing: "list", named: "pushes, lists of 1,000" },
  { doing: "lines", named: "pushes, NDJSON of 1,000 lines" },
  { doing: "status", named: "status of a command, one question at a time" },
];

/** Round by round. */
interface Figures {
  readonly rates: number[];
  /** CPU seconds of client or router and of PostgreSQL, per command. */
  readonly costs: number[];
  readonly medians: number[];
}

export async function http(ground: Ground): Promise<Ratio[]> {
  const { progress, rounds } = ground;
  progress.expect(rounds * (2 * doings.length + 1));
  const known = new Map<string, Figures>();
  const figures = (name: string): Figures => {
    const one = known.get(name) ?? { rates: [], costs: [], medians: [] };
    known.set(name, one);
    return one;
  };
  const kib: number[] = [];
  const statements: number[] = [];
  for (let round = 0; round < rounds; round++) {
    const sides = round % 2 === 0 ? ([inProcess, overHttp] as const) : ([overHttp, inProcess] as const);
    for (const { doing, named } of doings) {
      for (const side of sides) {
        progress.step(`http, round ${round + 1}: ${named}, ${side === overHttp ? "over HTTP" : "in process"}`);
        await side(ground, doing, figures(`${named}, ${side === overHttp ? "over HTTP" : "in process"}`));
      }
    }
    progress.step(`http, round ${round + 1}: ${streams} streams`);
    const open = await watching(ground);
    kib.push(open.kib);
    statements.push(open.statements);
  }
  for (const [name, { rates, costs, medians }] of known) {
    const [rate, cost, ms] = [median(rates), median(costs) * 1e6, median(medians)];
    progress.say(`median ${Math.round(rate)}/s, ${cost.toFixed(0)} s of CPU a million, ${ms.toFixed(2)} ms: ${name}`);
  }

  const ratio = (what: string, named: string, of: keyof Figures, turned = false): Ratio => {
    const [one, other] = [figures(`${named}, over HTTP`)[of], figures(`${named}, in process`)[of]];
    const each = one.map((figure, round) => figure / (other[round] as number));
    return ratioOfRounds(
      `http: ${named}, ${what}`,
      each.map((value) => (turned ? 1 / value : value)),
    );
  };
  return [
    ...doings
      .filter(({ doing }) => doing !== "status")
      .flatMap(({ named }) => [
        ratio("rate over HTTP / in process", named, "rates"),
        ratio("the same by CPU seconds", named, "costs", true),
      ]),
    ...doings
      .filter(({ doing }) => doing === "status")
      .flatMap(({ named }) => [
        ratio("median time over HTTP / in process", named, "medians"),
        ratio("CPU seconds over HTTP / in process", named, "costs"),
      ]),
    ratioOfRounds(`http: KiB of memory by stream, of ${streams} that are open`, kib, { atMost: streamKiB }),
    // One for all that end, and one for all single commands that are watched.
    ratioOfRounds("http: statements a second of all streams", statements, { atMost: 2.2 }),
  ];
}

async function inProcess(ground: Ground, doing: Doing, figures: Figures): Promise<void> {
  const [id = ""] = await prepared(ground, 1);
  const before = await serverCpuSeconds(ground.sql);
  const program = startProgram("programs/load-in-process.ts", [ground.url, doing, String(seconds), id], limitMs);
  const load = (await program.result) as Load;
  await note(ground, figures, load, load.cpuSeconds, before);
}

async function overHttp(ground: Ground, doing: Doing, figures: Figures): Promise<void> {
  const [id = ""] = await prepared(ground, 1);
  const { router, base } = await startRouter(ground);
  // Code that was not run before is slow, on this side as on the other, which begins with one call.
  await load(base, doing, 1, id);
  const [server, before] = [await figuresOf(base), await serverCpuSeconds(ground.sql)];
  const asked = await load(base, doing, seconds, id);
  const after = await figuresOf(base);
  await note(ground, figures, asked, after.cpuSeconds - server.cpuSeconds, before);
  ground.progress.say(`the generator of the load took ${asked.cpuSeconds.toFixed(2)} s of CPU`);
  await router.ask();
}

async function load(base: string, doing: Doing, duration: number, id: string): Promise<Load> {
  const args = [base, doing, String(duration), id];
  return (await startProgram("programs/load-http.ts", args, limitMs).result) as Load;
}

async function note(
  { sql, progress }: Ground,
  { rates, costs, medians }: Figures,
  asked: Load,
  cpuSeconds: number,
  before: number | undefined,
): Promise<void> {
  const after = await serverCpuSeconds(sql);
  const server = before === undefined || after === undefined ? 0 : after - before;
  const rate = asked.count / asked.seconds;
  rates.push(rate);
  costs.push((cpuSeconds + server) / asked.count);
  medians.push(asked.p50);
  const times = `median ${asked.p50.toFixed(2)} ms, 99th percentile ${asked.p99.toFixed(2)} ms`;
  const cpu = `${cpuSeconds.toFixed(2)} + ${server.toFixed(2)} s of CPU`;
  progress.say(`${Math.round(rate)}/s, ${times}, process and server ${cpu}`);
}

/** Streams that are open while nothing happens; then all leave, and as many come once more. */
async function watching(ground: Ground): Promise<{ kib: number; statements: number }> {
  const { progress } = ground;
  const ids = (await prepared(ground, streams / 2)).join(",");
  const { router, base } = await startRouter(ground);
  const watch = async (count: number) => {
    const program = startProgram("programs/watch-http.ts", [base, String(count), ids], limitMs);
    await program.ready;
    return program;
  };
  // What the first ones need is not theirs alone: code, connections, buffers.
  await (await watch(100)).ask();
  await pause(2_000);
  const before = await figuresOf(base, "?collect");
  const first = await watch(streams);
  await pause(2_000);
  const open = await figuresOf(base, "?collect");
  const begun = performance.now();
  await pause(watchedMs);
  const later = await figuresOf(base, "?collect");
  const statements = ((later.statements - open.statements) / (performance.now() - begun)) * 1_000;
  const bytes = (await first.ask()) as number;
  if (bytes === 0) throw new Error("Cannot measure streams: nothing came");
  await pause(2_000);
  const left = await figuresOf(base, "?collect");
  await pause(3_000);
  const silent = await figuresOf(base, "?collect");
  if (silent.statements !== left.statements) {
    throw new Error(
      `Cannot measure streams: ${silent.statements - left.statements} statements came after all had left`,
    );
  }
  // The router takes as many as this, so not one of the others may be left.
  const second = await watch(streams);
  await pause(2_000);
  const again = await figuresOf(base, "?collect");
  await second.ask();
  await pause(2_000);
  const end = await figuresOf(base, "?collect");
  await router.ask();
  const mib = (figures: ServerFigures) =>
    `${(figures.rss / 2 ** 20).toFixed(1)} MiB (heap ${(figures.heapUsed / 2 ** 20).toFixed(1)})`;
  progress.say(`memory before ${mib(before)}, ${streams} open ${mib(later)}, left ${mib(left)}`);
  progress.say(`memory of as many again ${mib(again)}, left ${mib(end)}; ${statements.toFixed(2)} statements/s`);
  // Most of both times: what is given back to the system late must not make the second ones look free.
  const most = Math.max(open.rss, later.rss, again.rss);
  return { kib: (most - before.rss) / 1_024 / streams, statements };
}

/** Nothing of what was measured before is left, and so many commands that nobody works off. */
async function prepared(ground: Ground, count: number): Promise<string[]> {
  await clear(ground);
  const orchestrator = createOrchestrator({ database: postgresJs(ground.sql), commands: [measured] });
  const pushed = await orchestrator.push(Array.from({ length: count }, (_, index) => measured(index)));
  await orchestrator.stop();
  return pushed.map(({ id }) => id);
}

async function startRouter({ url }: Ground): Promise<{ router: Program; base: string }> {
  const port = await freePort();
  const router = startProgram("programs/serve-http.ts", [url, String(port)], limitMs);
  await router.ready;
  return { router, base: `http://127.0.0.1:${port}` };
}

async function figuresOf(base: string, query = ""): Promise<ServerFigures> {
  const answer = await fetch(`${base}/figures${query}`, { headers: { authorization: `Bearer ${benchToken}` } });
  return (await answer.json()) as ServerFigures;
}

function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = createServer().on("error", reject);
    server.listen(0, "127.0.0.1", () => {
      const address = server.address();
      server.close(() => resolve(typeof address === "object" && address !== null ? address.port : 0));
    });
  });
}
