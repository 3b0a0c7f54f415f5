import { connectionUsage, parseOptions, readId, readJson } from "./arguments.ts";
import { actOnChoice, choiceOptions } from "./choice.ts";
import type { CliCommand } from "./commands.ts";
import { filterUsage } from "./filter-options.ts";
import { MisuseError } from "./misuse.ts";
import { byUsage, operator } from "./operator.ts";
import { readAll } from "./source.ts";

const attempt = "Cannot retry";

const options = { ...choiceOptions, input: { type: "string" }, file: { type: "string" } } as const;

export const retryCommand: CliCommand = {
  summary: "runs commands that have ended once more: by id, or all that a filter finds",
  options,
  usage: `Usage: orchestratum retry <id>… | <filter> [options]

Puts commands that have ended back into the queue, with all their attempts.
On a terminal it asks before it retries more than one.

  --input           for one id: the corrected input, as JSON, or - for standard input
  --file            for one id: reads the corrected input from this file; - is standard input
${filterUsage}
                    (without --status: failed, timed_out and not_found)
  --dry-run         says how many a filter finds, and changes nothing
  --yes             does not ask
${byUsage}
  --json            prints one document: {"results": {"<id>": "retried"}}, or {"count": …, "busy": …} for a filter
${connectionUsage}

Results: retried, unfinished (it has not ended), erased (it needs a new input), unknown, busy (somebody has it locked).

Exit codes:
  0  all were put back
  3  there is none of these ids
  5  not all of them, or you said no

Examples:
  orchestratum retry 01999f3e-7c1b-7000-8000-3f2a9f0e6d11
  orchestratum retry 01999f3e-7c1b-7000-8000-3f2a9f0e6d11 --input '{"to": "ada@example.com"}'
  orchestratum retry 01999f3e-7c1b-7000-8000-3f2a9f0e6d11 --file corrected.json
  orchestratum retry --name send_email --from 2h --error ECONNREFUSED --dry-run
`,

  async run(args) {
    const { values, positionals } = parseOptions(attempt, args, options);
    const by = operator(attempt, values.by);
    const input = await correction(values, positionals);
    return await actOnChoice(
      {
        attempt,
        words: ["Retry", "Retrying", "Retried"],
        statuses: ["failed", "timed_out", "not_found"],
        done: ["retried"],
        onIds: async (orchestrator, ids) => {
          const [id] = ids as [string, ...string[]];
          if (input === undefined) return await orchestrator.retry(ids, { by });
          return new Map([[id, await orchestrator.retry(id, { input, by })]]);
        },
        onFilter: (orchestrator, filter, options) => orchestrator.retry(filter, { ...options, by }),
      },
      values,
      positionals,
    );
  },
};

interface Correction {
  readonly input?: string | undefined;
  readonly file?: string | undefined;
}

/** The input that takes the place of the one it had; undefined where none is given. */
async function correction({ input, file }: Correction, positionals: readonly string[]): Promise<unknown> {
  if (input === undefined && file === undefined) return undefined;
  readId(`${attempt} with an input`, positionals);
  if (input !== undefined && file !== undefined) {
    throw new MisuseError(`${attempt}: input is given twice, by --input and by --file`);
  }
  const source = input === "-" ? "-" : file;
  return readJson(attempt, "input", source === undefined ? (input as string) : await readAll(attempt, source));
}
