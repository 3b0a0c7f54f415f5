import { runOn } from "../run-worker.ts";
import { parseOptions } from "./arguments.ts";
import type { CliCommand } from "./commands.ts";
import { withModule, workerOptions, workerUsage } from "./module.ts";
import { platformHere } from "./platform-here.ts";

const attempt = "Cannot work";

export const workCommand: CliCommand = {
  summary: "runs a worker until it is told to end",
  options: workerOptions,
  takes: "files",
  usage: `Usage: orchestratum work <module or folder> [options]

Runs a worker until SIGTERM or SIGINT: running handlers then have time to finish; a second signal aborts them.
The module's default export, or the one named orchestrator, is an orchestrator, or its named exports are handlers, which
then need a database. Of a folder, the handlers of all its modules are taken, those of its subfolders among them.

${workerUsage}

Examples:
  orchestratum work ./orchestrator.js --concurrency 50
  orchestratum work ./commands/ --database ./data --migrate
  orchestratum work ./handlers.js --database postgres://localhost/app --queues default,mail
  node --import tsx node_modules/.bin/orchestratum work ./handlers.ts --database ./data --migrate
`,

  async run(args) {
    const { values, positionals } = parseOptions(attempt, args, workerOptions);
    await withModule(attempt, positionals, values, async ({ orchestrator, options }) => {
      await runOn(await platformHere(), orchestrator, options);
    });
  },
};
