import { databaseUsage } from "./arguments.ts";
import { withConnection } from "./connection.ts";
import type { CliCommand } from "./main.ts";
import { byUsage } from "./operator.ts";
import { readPause } from "./pause.ts";
import { print, printJson } from "./terminal.ts";

export const resumeCommand: CliCommand = {
  summary: "lets a paused queue go on",
  usage: `Usage: orchestratum resume <queue> [options]

Lets a paused queue go on. One that is not paused stays as it is.

${byUsage}
  --json            prints one document, {"queue": …, "paused": false, "changed": …}
${databaseUsage}

Examples:
  orchestratum resume mail
`,

  async run(args) {
    const { queue, by, values } = readPause("Cannot resume", args);
    const changed = await withConnection(values, ({ orchestrator }) => orchestrator.resumeQueue(queue, { by }));
    const done = changed ? `Resumed queue ${queue}` : `Queue ${queue} was not paused`;
    await (values.json ? printJson({ queue, paused: false, changed }) : print(done));
  },
};
