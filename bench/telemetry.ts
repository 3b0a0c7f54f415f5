/**
 * Telemetry: what observing costs the worker's process, in CPU seconds for the same commands: without anything (twice, which
 * shows the noise), with an observer of some types, with one of all, with a log, and with OpenTelemetry off and on.
 */
import type { Ratio } from "./figures.ts";
import { median, ratioOfRounds } from "./figures.ts";
import type { Ground } from "./ground.ts";
import { node, startProgram } from "./program.ts";

const count = 20_000;

export async function telemetry({ progress, rounds, url }: Ground): Promise<Ratio[]> {
  progress.expect(1);
  progress.step(`telemetry: ${rounds} rounds`);
  const program = startProgram("programs/telemetry.ts", [url, String(count), String(rounds)], 600_000, [
    node,
    "--expose-gc",
  ]);
  const taken = (await program.result) as Readonly<Record<string, readonly number[]>>;
  const [[, base] = ["", []], ...others] = Object.entries(taken);
  for (const [way, each] of Object.entries(taken)) {
    progress.say(`median ${median(each).toFixed(1)} CPU seconds a million commands: ${way}`);
  }
  return others.map(([way, each]) => {
    const ratios = each.map((seconds, round) => seconds / (base[round] as number));
    return ratioOfRounds(`telemetry, CPU seconds: ${way} / nothing`, ratios);
  });
}
