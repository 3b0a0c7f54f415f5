/** What became of each of several commands: printed, and as an exit code. */

import { type ExitCode, exitCode } from "./exit-code.ts";
import { table } from "./table.ts";
import { print, printJson } from "./terminal.ts";

interface ReportOptions {
  /** The results that are what was asked for. */
  readonly done: readonly string[];
  readonly json: boolean;
}

export async function reportResults(
  results: ReadonlyMap<string, string>,
  { done, json }: ReportOptions,
): Promise<ExitCode> {
  const rows = [...results];
  if (json) {
    await printJson({ results: Object.fromEntries(rows) });
  } else {
    const colour = (result: string) => (done.includes(result) ? "green" : result === "unknown" ? "red" : "yellow");
    await print(
      table(rows, [
        { title: "id", value: ([id]) => id },
        { title: "result", value: ([, result]) => result, colour: ([, result]) => colour(result) },
      ]),
    );
  }
  if (rows.every(([, result]) => done.includes(result))) return exitCode.done;
  return rows.every(([, result]) => result === "unknown") ? exitCode.unknown : exitCode.partly;
}
