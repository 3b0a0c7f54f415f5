import { connectionOptions, connectionUsage, parseOptions, readId } from "./arguments.ts";
import type { CliCommand } from "./commands.ts";
import { withConnection } from "./connection.ts";
import { exitCode } from "./exit-code.ts";
import { plain, print, printJson } from "./terminal.ts";

const attempt = "Cannot explain command";

const options = { ...connectionOptions, json: { type: "boolean" } } as const;

export const explainCommand: CliCommand = {
  summary: "says why a command is not running, and what to do about it",
  options,
  usage: `Usage: orchestratum explain <id> [options]

Says in one sentence why a command is not running, and what to do about it. Times are in UTC.

  --json            prints one document, {"cause", "sentence", "status", "queue", …}
${connectionUsage}

Exit codes:
  0  done
  3  there is no such command

Examples:
  orchestratum explain 01999f3e-7c1b-7000-8000-3f2a9f0e6d11
  orchestratum explain 01999f3e-7c1b-7000-8000-3f2a9f0e6d11 --json | jq -r .cause
`,

  async run(args) {
    const { values, positionals } = parseOptions(attempt, args, options);
    const id = readId(attempt, positionals);
    const explanation = await withConnection(values, ({ orchestrator }) => orchestrator.explain(id));
    if (explanation === undefined) {
      console.error(`${attempt}: there is no command ${id}: it was never pushed, or retention has removed it`);
      return exitCode.unknown;
    }
    await (values.json ? printJson(explanation) : print(plain(explanation.sentence)));
    return exitCode.done;
  },
};
