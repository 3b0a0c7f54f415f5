import { connectionUsage, parseOptions, readId, readJson } from "./arguments.ts";
import { actOnChoice, choiceOptions } from "./choice.ts";
import type { CliCommand } from "./commands.ts";
import { withConnection } from "./connection.ts";
import { filterUsage } from "./filter-options.ts";
import { byUsage, operator } from "./operator.ts";
import { reportResults } from "./results.ts";

const attempt = "Cannot retry";
const done = ["retried"];

const options = { ...choiceOptions, input: { type: "string" } } as const;

export const retryCommand: CliCommand = {
  summary: "runs commands that have ended once more: by id, or all that a filter finds",
  options,
  usage: `Usage: orchestratum retry <id>… | <filter> [options]

Puts commands that have ended back into the queue, with all their attempts.
On a terminal it asks before it retries more than one.

  --input           for one id: the corrected input, as JSON
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
  orchestratum retry --name send_email --from 2h --error ECONNREFUSED --dry-run
`,

  async run(args) {
    const { values, positionals } = parseOptions(attempt, args, options);
    const by = operator(attempt, values.by);
    if (values.input !== undefined) {
      const id = readId(`${attempt} with --input`, positionals);
      const input = readJson(attempt, "--input", values.input);
      const result = await withConnection(values, ({ orchestrator }) => orchestrator.retry(id, { input, by }));
      return await reportResults(new Map([[id, result]]), { done, json: values.json === true });
    }
    return await actOnChoice(
      {
        attempt,
        words: ["Retry", "Retrying", "Retried"],
        statuses: ["failed", "timed_out", "not_found"],
        done,
        onIds: (orchestrator, ids) => orchestrator.retry(ids, { by }),
        onFilter: (orchestrator, filter, options) => orchestrator.retry(filter, { ...options, by }),
      },
      values,
      positionals,
    );
  },
};
