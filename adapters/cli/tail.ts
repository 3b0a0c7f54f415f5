import type { CommandSummary } from "../../src/summary.ts";
import { connectionOptions, connectionUsage, parseOptions, readTime, refusePositionals } from "./arguments.ts";
import type { CliCommand } from "./commands.ts";
import { withConnection } from "./connection.ts";
import { MisuseError } from "./misuse.ts";
import { paint, plain, print, statusColour, terminalWidth, truncate } from "./terminal.ts";
import { durationText, timeText } from "./words.ts";

const attempt = "Cannot follow";

const options = {
  ...connectionOptions,
  since: { type: "string" },
  queue: { type: "string" },
  name: { type: "string" },
  failed: { type: "boolean" },
  json: { type: "boolean" },
} as const;

export const tailCommand: CliCommand = {
  summary: "shows commands as they end, one a line, until you stop it",
  options,
  usage: `Usage: orchestratum tail [options]

Shows each command when it ends: when, how, what it was, how long it ran, and what went wrong. It goes on until it is
stopped (Ctrl+C), looks once a second, and comes back by itself when the server was away. It prints no inputs and no
outputs.

  --since           begins with what ended since then: ISO 8601 (UTC without a zone), or so long ago: 90s, 15m, 1h [now]
  --queue           of this queue only
  --name            of this name only
  --failed          only what failed, timed out or was not found
  --json            prints each as one document on a line of its own
${connectionUsage}

Examples:
  orchestratum tail --failed
  orchestratum tail --since 10m --queue mail
  orchestratum tail --url https://app.example.com/jobs --json | jq -r 'select(.status == "failed") | .id'
`,

  async run(args) {
    const { values, positionals } = parseOptions(attempt, args, options);
    refusePositionals(attempt, positionals);
    const since = readTime(attempt, "--since", values.since);
    const { queue, name, failed, json } = values;
    const isWanted = (command: CommandSummary): boolean =>
      (queue === undefined || command.queue === queue) &&
      (name === undefined || command.name === name) &&
      (!failed || ["failed", "timed_out", "not_found"].includes(command.status));
    await withConnection(values, async ({ orchestrator, here }) => {
      if (here?.database.name === "pglite") {
        throw new MisuseError(
          `${attempt}: in a directory nothing ends meanwhile, since no worker can have it open beside this process; ask for a list`,
        );
      }
      const onSkipped = (): void => console.error("More ended at once than could be read: some are left out");
      for await (const command of orchestrator.tail({ since, onSkipped })) {
        if (isWanted(command)) await print(json ? JSON.stringify(command) : lineOf(command));
      }
    });
  },
};

/** The width of the longest status. */
const statusWidth = 9;

function lineOf(command: CommandSummary): string {
  const { id, name, hook, queue, status, startedAt, finishedAt, error } = command;
  const took = startedAt && finishedAt ? durationText(finishedAt.getTime() - startedAt.getTime()) : "";
  const what = `${plain(name)}${hook === undefined ? "" : ` (${hook})`}`;
  const reason = status === "succeeded" ? "" : plain([error?.code, error?.message].filter(Boolean).join(": "));
  const head = `${timeText(finishedAt)}  `;
  const rest = `  ${id}  ${what}  ${plain(queue)}  ${took}  ${reason}`.trimEnd();
  const width = terminalWidth();
  const room = width === undefined ? undefined : Math.max(width - head.length - statusWidth, 0);
  return (
    head + paint(status.padEnd(statusWidth), statusColour(status)) + (room === undefined ? rest : truncate(rest, room))
  );
}
