import { connectionOptions, connectionUsage, parseOptions, refusePositionals } from "./arguments.ts";
import type { CliCommand } from "./commands.ts";
import { withConnection } from "./connection.ts";
import { table } from "./table.ts";
import { print, printJson } from "./terminal.ts";
import { timeText } from "./words.ts";

const attempt = "Cannot list queues";

const options = { ...connectionOptions, hooks: { type: "boolean" }, json: { type: "boolean" } } as const;

export const queuesCommand: CliCommand = {
  summary: "lists queues: what waits and runs in them, and which are paused",
  options,
  usage: `Usage: orchestratum queues [options]

Lists the queues in which something lives, and those that are paused.

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
    const queues = await withConnection(values, ({ orchestrator }) => orchestrator.queues({ hooks }));
    if (values.json) {
      await printJson(queues);
      return;
    }
    if (queues.length === 0) {
      await print("No queues");
      return;
    }
    await print(
      table(queues, [
        { title: "queue", value: ({ queue }) => queue, cut: true },
        { title: "scheduled", value: ({ scheduled }) => scheduled },
        { title: "pending", value: ({ pending }) => pending },
        { title: "running", value: ({ running }) => running },
        {
          title: "paused",
          value: ({ paused, pausedAt, pausedBy }) =>
            paused ? `since ${timeText(pausedAt)}${pausedBy === undefined ? "" : ` by ${pausedBy}`}` : undefined,
          colour: () => "yellow",
        },
        {
          title: "paused names",
          value: ({ pausedNames }) => (pausedNames.length > 0 ? pausedNames.join(", ") : undefined),
          colour: () => "yellow",
        },
      ]),
    );
  },
};
