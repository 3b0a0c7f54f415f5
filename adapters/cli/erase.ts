import { actOnIds } from "./act-on-ids.ts";
import { connectionOptions, connectionUsage, parseOptions, readIds } from "./arguments.ts";
import type { CliCommand } from "./commands.ts";
import { withConnection } from "./connection.ts";
import { exitCode } from "./exit-code.ts";
import { MisuseError } from "./misuse.ts";
import { byUsage, operator } from "./operator.ts";
import { confirmed } from "./question.ts";
import { reportResults } from "./results.ts";
import { plural } from "./words.ts";

const attempt = "Cannot erase";

const options = {
  ...connectionOptions,
  yes: { type: "boolean" },
  by: { type: "string" },
  json: { type: "boolean" },
} as const;

export const eraseCommand: CliCommand = {
  summary: "erases a person's data from commands; the fact that they were stays",
  options,
  usage: `Usage: orchestratum erase <id>… [options]

Erases input, output, errors and who wanted it from commands, from their hook commands and from deliveries of their
events. That there was such a command stays, and how it ended; so do events. It cannot be undone. What has not ended needs
its data, and is not erased: cancel it first.

  --yes             does not ask; needed where there is no terminal to ask on
${byUsage}
  --json            prints one document, {"results": {"<id>": "erased"}}
${connectionUsage}

Results: erased, waiting or running (it, or one of those, has not ended), unknown, busy (somebody has it
locked).

Exit codes:
  0  all erased
  3  there is none of them
  5  not all of them

Examples:
  orchestratum erase 01999f3e-7c1b-7000-8000-3f2a9f0e6d11
  orchestratum list --correlation order-1234 --json | jq -r '.commands[].id' | xargs orchestratum erase --yes
`,

  async run(args) {
    const { values, positionals } = parseOptions(attempt, args, options);
    const ids = readIds(attempt, positionals);
    if (ids.length === 0) throw new MisuseError(`${attempt}: at least one id is wanted`);
    const by = operator(attempt, values.by);
    if (!values.yes && !(await confirmed(`Erase the data of ${plural(ids.length, "command")}, for good?`))) {
      console.error("Nothing was erased");
      return exitCode.partly;
    }
    const results = await withConnection(values, (connection) =>
      actOnIds(connection, "Erasing", ids, (orchestrator, some) => orchestrator.erase(some, { by })),
    );
    return await reportResults(results, { done: ["erased"], json: values.json === true });
  },
};
