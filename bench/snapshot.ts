/**
 * Held snapshot: while another session keeps a snapshot open, no index entry of a finished command can be removed. The
 * time of a claim must not grow by that, also past the end of a lease. The same with marks switched off, for contrast.
 */
import { percentile, type Ratio, ratioOfRounds } from "./figures.ts";
import { clear, type Ground } from "./ground.ts";
import { startProgram } from "./program.ts";
import { pause, sharedNow } from "./programs/parent.ts";

const rate = 5_000;
const leaseMs = 10_000;
const warmUpMs = 5_000;
const heldMs = 30_000;
const windowMs = 5_000;
const limitMs = 120_000;
const worker = { concurrency: 500, leaseMs };

interface Claim {
  /** After the snapshot was taken. */
  readonly atMs: number;
  readonly ms: number;
  readonly rows: number;
}

export async function snapshot(ground: Ground): Promise<Ratio[]> {
  const { progress, rounds } = ground;
  progress.expect(2 * rounds);
  const ratios: Record<"marked" | "unmarked", number[]> = { marked: [], unmarked: [] };
  for (let round = 0; round < rounds; round++) {
    for (const marking of ["marked", "unmarked"] as const) {
      progress.step(`snapshot, round ${round + 1}: ${marking}`);
      ratios[marking].push(await held(ground, marking));
    }
  }
  return [
    ratioOfRounds("held snapshot: claims, last five seconds / first five", ratios.marked, { atMost: 1.5 }),
    ratioOfRounds("held snapshot: the same without marks", ratios.unmarked),
  ];
}

async function held(ground: Ground, marking: "marked" | "unmarked"): Promise<number> {
  const { sql, url, progress } = ground;
  await clear(ground);
  const claimer = startProgram("programs/claim-orchestratum.ts", [url, JSON.stringify(worker), marking], limitMs);
  await claimer.ready;
  const pusher = startProgram("programs/push-steadily.ts", [url, String(rate)], limitMs);
  await pusher.ready;
  await pause(warmUpMs);
  let since = 0;
  await sql.begin("isolation level repeatable read read only", async (transaction) => {
    await transaction`select count(*) from orchestratum.setting`;
    since = sharedNow();
    await pause(heldMs);
  });
  const pushed = (await pusher.ask()) as number;
  const all = (await claimer.ask()) as [number, number, number, boolean][];

  const ordinary: Claim[] = [];
  const rescans: Claim[] = [];
  for (const [at, ms, rows, fromBelow] of all) (fromBelow ? rescans : ordinary).push({ atMs: at - since, ms, rows });
  const window = (from: number): Windowed => ({
    ordinary: between(ordinary, from),
    rescans: between(rescans, from),
  });
  const first = window(0);
  const last = window(heldMs - windowMs);
  progress.say(`${marking}: ${Math.round(pushed)} commands/s pushed; first five seconds: ${told(first)}`);
  progress.say(`${marking}: last five seconds: ${told(last)}`);
  return percentile(times(last.ordinary), 0.99) / percentile(times(first.ordinary), 0.99);
}

interface Windowed {
  readonly ordinary: readonly Claim[];
  readonly rescans: readonly Claim[];
}

const between = (claims: readonly Claim[], from: number) =>
  claims.filter(({ atMs }) => atMs >= from && atMs < from + windowMs);
const times = (claims: readonly Claim[]) => claims.map(({ ms }) => ms);

function told({ ordinary, rescans }: Windowed): string {
  const rows = ordinary.reduce((sum, claim) => sum + claim.rows, 0);
  const ms = [0.5, 0.99].map((share) => percentile(times(ordinary), share).toFixed(2));
  const beside =
    rescans.length === 0
      ? "no rescans"
      : `${rescans.length} rescans, median ${percentile(times(rescans), 0.5).toFixed(2)} ms, longest ${Math.max(...times(rescans)).toFixed(2)} ms`;
  return `${ordinary.length} claims of ${(rows / ordinary.length).toFixed(1)} rows, median ${ms[0]} ms, 99th percentile ${ms[1]} ms; ${beside}`;
}
