import type { CommandSummary } from "../../src/summary.ts";
import {
  connectionOptions,
  connectionUsage,
  parseOptions,
  readInteger,
  refusable,
  refusePositionals,
} from "./arguments.ts";
import type { CliCommand } from "./commands.ts";
import { withConnection } from "./connection.ts";
import { filterOptions, filterUsage, readFilter } from "./filter-options.ts";
import { type Column, table } from "./table.ts";
import { print, printJson, statusColour } from "./terminal.ts";
import { timeText } from "./words.ts";

const attempt = "Cannot list commands";

const options = {
  ...connectionOptions,
  ...filterOptions,
  limit: { type: "string" },
  cursor: { type: "string" },
  json: { type: "boolean" },
} as const;

export const listCommand: CliCommand = {
  summary: "lists commands, by status, queue, name, time and more",
  options,
  usage: `Usage: orchestratum list [filter] [options]

Lists commands: first those that live, in the order in which they are claimed, then those that have finished, the
newest first. It prints no inputs and no outputs.

${filterUsage}
  --limit           1 to 1000 [100]
  --cursor          goes on where a page ended: the cursor that it printed, with the same filter
  --json            prints one document, {"commands": […], "cursor": …}; on the last page there is no cursor
${connectionUsage}

Examples:
  orchestratum list --status failed --from 1h
  orchestratum list --status running,pending --queue mail
  orchestratum list --name send_email --from 2026-10-01 --to 2026-10-02 --error ECONNREFUSED
  orchestratum list --status failed --from 1d --json | jq -r '.commands[].id'
`,

  async run(args) {
    const { values, positionals } = parseOptions(attempt, args, options);
    refusePositionals(attempt, positionals);
    const filter = readFilter(attempt, values);
    const limit = readInteger(attempt, "--limit", values.limit, 1, 1_000);
    const page = await withConnection(values, ({ orchestrator }) =>
      refusable(orchestrator.list(filter, { limit, cursor: values.cursor })),
    );
    if (values.json) {
      await printJson(page);
      return;
    }
    if (page.commands.length === 0) {
      await print("No commands");
      return;
    }
    await print(table(page.commands, columns));
    if (page.cursor !== undefined) await print(`\nMore: --cursor ${page.cursor}`);
  },
};

const columns: readonly Column<CommandSummary>[] = [
  { title: "id", value: ({ id }) => id },
  { title: "name", value: ({ name, hook }) => (hook ? `${name} (${hook})` : name), cut: true },
  { title: "queue", value: ({ queue }) => queue, cut: true },
  { title: "status", value: ({ status }) => status, colour: ({ status }) => statusColour(status) },
  { title: "attempt", value: ({ attempt: number }) => number },
  { title: "left", value: ({ finishedAt, retriesLeft }) => (finishedAt ? undefined : retriesLeft) },
  { title: "finished, or due", value: (command) => timeText(wantedAt(command)) },
  { title: "error", value: ({ error }) => error && [error.code, error.message].filter(Boolean).join(": "), cut: true },
];

/** Of what backs off or was put off, when it is tried next: that it was wanted before is history. */
function wantedAt({ status, finishedAt, dueAt, availableAt }: CommandSummary): Date {
  return finishedAt ?? (status === "scheduled" ? (availableAt ?? dueAt) : dueAt);
}
