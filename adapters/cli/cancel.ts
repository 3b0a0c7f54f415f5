import { connectionUsage, parseOptions } from "./arguments.ts";
import { actOnChoice, choiceOptions } from "./choice.ts";
import type { CliCommand } from "./commands.ts";
import { filterUsage } from "./filter-options.ts";
import { byUsage, operator } from "./operator.ts";

const attempt = "Cannot cancel";

export const cancelCommand: CliCommand = {
  summary: "cancels commands: by id, or all that a filter finds",
  options: choiceOptions,
  usage: `Usage: orchestratum cancel <id>… | <filter> [options]

Cancels what has not ended: what waits ends at once, and the handler of what runs has its signal aborted.
On a terminal it asks before it cancels more than one.

${filterUsage}
                    (without --status: scheduled, pending and running)
  --dry-run         says how many a filter finds, and changes nothing
  --yes             does not ask
${byUsage}
  --json            prints one document: {"results": {"<id>": "cancelled"}}, or {"count": …, "busy": …} for a filter
${connectionUsage}

Results: cancelled (it waited), requested (it runs, its worker is told), finished (too late), unknown,
busy (somebody has it locked).

Exit codes:
  0  all were cancelled, or their workers are told
  3  there is none of these ids
  5  not all of them, or you said no

Examples:
  orchestratum cancel 01999f3e-7c1b-7000-8000-3f2a9f0e6d11
  orchestratum cancel --name send_newsletter --dry-run
  orchestratum cancel --queue mail --status scheduled --yes
`,

  async run(args) {
    const { values, positionals } = parseOptions(attempt, args, choiceOptions);
    const by = operator(attempt, values.by);
    return await actOnChoice(
      {
        attempt,
        words: ["Cancel", "Cancelling", "Cancelled"],
        statuses: ["scheduled", "pending", "running"],
        done: ["cancelled", "requested"],
        onIds: (orchestrator, ids) => orchestrator.cancel(ids, { by }),
        onFilter: (orchestrator, filter, options) => orchestrator.cancel(filter, { ...options, by }),
      },
      values,
      positionals,
    );
  },
};
