import type { PausedName, QueueState } from "../../src/control.ts";
import { connectionOptions, connectionUsage, parseOptions, refusePositionals } from "./arguments.ts";
import type { CliCommand } from "./commands.ts";
import { withConnection } from "./connection.ts";
import { type Column, table } from "./table.ts";
import { print, printJson } from "./terminal.ts";
import { timeText } from "./words.ts";

const attempt = "Cannot list queues";

const options = { ...connectionOptions, hooks: { type: "boolean" }, json: { type: "boolean" } } as const;

export const queuesCommand: CliCommand = {
  summary: "lists queues: what waits and runs in them, and which are paused",
  options,
  usage: `Usage: orchestratum queues [options]

Lists the queues in which something lives, those that are paused, and below them the names that are paused.

  --hooks           counts hook commands, too
  --json            prints one document, a list of {"queue", "paused", "scheduled", "pending", "running", …}
${connectionUsage}

Examples:
  orchestratum queues
  orchestratum queues --json | jq -r '.[] | select(.paused) | .queue'
`,

  async run(args) {
    const { values, positionals } = parseOptions(attempt, args, options);
    refusePositionals(attempt, positionals);
    const hooks = values.hooks === true;
    const { queues, names } = await withConnection(values, async ({ orchestrator }) => ({
      queues: await orchestrator.queues({ hooks }),
      names: values.json ? [] : await orchestrator.pausedNames(),
    }));
    if (values.json) {
      await printJson(queues);
      return;
    }
    const parts = [queues.length === 0 ? "No queues" : table(queues, queueColumns)];
    if (names.length > 0) parts.push(table(names, nameColumns));
    await print(parts.join("\n\n"));
  },
};

const queueColumns: readonly Column<QueueState>[] = [
  { title: "queue", value: ({ queue }) => queue, cut: true },
  { title: "scheduled", value: ({ scheduled }) => scheduled },
  { title: "pending", value: ({ pending }) => pending },
  { title: "running", value: ({ running }) => running },
  {
    title: "paused",
    value: (state) => (state.paused ? sinceText(state) : undefined),
    colour: () => "yellow",
  },
  {
    title: "paused names",
    value: ({ pausedNames }) => (pausedNames.length > 0 ? pausedNames.join(", ") : undefined),
    colour: () => "yellow",
  },
];

const nameColumns: readonly Column<PausedName>[] = [
  { title: "name", value: ({ name }) => name, cut: true },
  { title: "paused", value: sinceText, colour: () => "yellow" },
];

function sinceText({ pausedAt, pausedBy }: Pick<QueueState, "pausedAt" | "pausedBy">): string {
  return `since ${timeText(pausedAt)}${pausedBy === undefined ? "" : ` by ${pausedBy}`}`;
}
