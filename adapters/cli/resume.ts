import { connectionUsage } from "./arguments.ts";
import type { CliCommand } from "./commands.ts";
import { withConnection } from "./connection.ts";
import { byUsage } from "./operator.ts";
import { pauseOptions, readPause, told } from "./pause.ts";
import { print, printJson } from "./terminal.ts";

export const resumeCommand: CliCommand = {
  summary: "lets a paused queue, or paused commands of a name, go on",
  options: pauseOptions,
  usage: `Usage: orchestratum resume <queue> [options]
       orchestratum resume --name <name> [options]

Lets a paused queue, or the paused commands of a name, go on. What is not paused stays as it is.

  --name            the name of the commands that go on, in place of a queue
${byUsage}
  --json            prints one document, {"queue": … or "name": …, "paused": false, "changed": …}
${connectionUsage}

Examples:
  orchestratum resume mail
  orchestratum resume --name send_email
`,

  async run(args) {
    const { target, by, values } = readPause("Cannot resume", args);
    const changed = await withConnection(values, ({ orchestrator }) =>
      "name" in target ? orchestrator.resumeName(target.name, { by }) : orchestrator.resumeQueue(target.queue, { by }),
    );
    const what = told(target);
    const done = changed ? `Resumed ${what}` : `${what[0]?.toUpperCase()}${what.slice(1)} was not paused`;
    await (values.json ? printJson({ ...target, paused: false, changed }) : print(done));
  },
};
