/** What cancel and retry have in common: they act on ids that are named, or on all that a filter finds. */

import process from "node:process";
import type { CommandFilter } from "../../src/filter.ts";
import { actOnIds } from "./act-on-ids.ts";
import { connectionOptions, readIds, refusable } from "./arguments.ts";
import { type ConnectionValues, type Reached, withConnection } from "./connection.ts";
import { type ExitCode, exitCode } from "./exit-code.ts";
import { type FilterValues, filterOptions, hasFilter, readFilter } from "./filter-options.ts";
import { MisuseError } from "./misuse.ts";
import { showProgress } from "./progress-bar.ts";
import { confirmed } from "./question.ts";
import { reportResults } from "./results.ts";
import { print, printJson } from "./terminal.ts";
import { plural } from "./words.ts";

const actOptions = {
  "dry-run": { type: "boolean" },
  yes: { type: "boolean" },
  by: { type: "string" },
  json: { type: "boolean" },
} as const;

export const choiceOptions: typeof connectionOptions & typeof filterOptions & typeof actOptions = {
  ...connectionOptions,
  ...filterOptions,
  ...actOptions,
};
export interface ChoiceValues extends FilterValues, ConnectionValues {
  readonly "dry-run"?: boolean | undefined;
  readonly yes?: boolean | undefined;
  readonly json?: boolean | undefined;
}

/** The act, as words and as calls. */
export interface Act {
  /** `Cannot cancel` */
  readonly attempt: string;
  /** `Cancel`, `Cancelling`, `Cancelled` */
  readonly words: readonly [imperative: string, present: string, past: string];
  /** Which statuses it looks at where --status says nothing: what it cannot change is left out. */
  readonly statuses: readonly string[];
  /** The results that are what was asked for. */
  readonly done: readonly string[];
  readonly onIds: (orchestrator: Reached, ids: readonly string[]) => Promise<ReadonlyMap<string, string>>;
  onFilter(
    orchestrator: Reached,
    filter: CommandFilter,
    options: { readonly dryRun: boolean; readonly onProgress?: (count: number) => void },
  ): Promise<{ readonly count: number; readonly busy: number }>;
}

export async function actOnChoice(act: Act, values: ChoiceValues, positionals: readonly string[]): Promise<ExitCode> {
  const { attempt, words, done } = act;
  const [imperative, present, past] = words;
  const json = values.json === true;
  const ids = readIds(attempt, positionals);
  const mayAsk = process.stdin.isTTY && !values.yes;
  const refused = (): ExitCode => {
    console.error(`Nothing was ${past.toLowerCase()}`);
    return exitCode.partly;
  };

  if (ids.length > 0) {
    if (hasFilter(values)) throw new MisuseError(`${attempt}: ids and a filter are given, of which it can have one`);
    if (values["dry-run"]) throw new MisuseError(`${attempt}: --dry-run is for a filter; ask for the status of an id`);
    if (ids.length > 1 && mayAsk && !(await confirmed(`${imperative} ${plural(ids.length, "command")}?`))) {
      return refused();
    }
    const results = await withConnection(values, (connection) => actOnIds(connection, present, ids, act.onIds));
    return await reportResults(results, { done, json });
  }

  if (!hasFilter(values)) {
    throw new MisuseError(
      `${attempt}: which? Name ids, or at least one of --${Object.keys(filterOptions).slice(0, -1).join(", --")}`,
    );
  }
  const filter = readFilter(attempt, { ...values, status: values.status ?? act.statuses.join(",") });
  return await withConnection(values, async ({ orchestrator }) => {
    const countOf = async (): Promise<number> =>
      (await refusable(act.onFilter(orchestrator, filter, { dryRun: true }))).count;
    if (values["dry-run"]) {
      const count = await countOf();
      await (json
        ? printJson({ count, dryRun: true })
        : print(`Would ${imperative.toLowerCase()} ${plural(count, "command")}`));
      return exitCode.done;
    }
    let total: number | undefined;
    if (mayAsk) {
      total = await countOf();
      if (total > 1 && !(await confirmed(`${imperative} ${plural(total, "command")}?`))) return refused();
    }
    const progress = showProgress(present);
    const options = { dryRun: false, onProgress: (count: number) => progress.update(count, total) };
    const { count, busy } = await refusable(act.onFilter(orchestrator, filter, options)).finally(() => progress.end());
    await (json ? printJson({ count, busy }) : print(`${past} ${plural(count, "command")}`));
    if (busy > 0 && !json) console.error(`Somebody had ${plural(busy, "command")} locked: try again`);
    return busy > 0 ? exitCode.partly : exitCode.done;
  });
}
