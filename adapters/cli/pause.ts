import { requireQueue } from "../../src/limits.ts";
import { checked, databaseOptions, databaseUsage, parseOptions } from "./arguments.ts";
import { withConnection } from "./connection.ts";
import type { CliCommand } from "./main.ts";
import { MisuseError } from "./misuse.ts";
import { byUsage, operator } from "./operator.ts";
import { print, printJson } from "./terminal.ts";

const attempt = "Cannot pause";

export const pauseCommand: CliCommand = {
  summary: "pauses a queue: nothing more of it is claimed",
  usage: `Usage: orchestratum pause <queue> [options]

Pauses a queue: workers claim nothing more of it, within a second where notifications arrive and else at their next
look. What runs is not disturbed, and what is pushed waits.

${byUsage}
  --json            prints one document, {"queue": …, "paused": true, "changed": …}
${databaseUsage}

Examples:
  orchestratum pause mail
  orchestratum pause mail --by "deployment 1.8"
`,

  async run(args) {
    const { queue, by, values } = readPause(attempt, args);
    const changed = await withConnection(values, ({ orchestrator }) => orchestrator.pauseQueue(queue, { by }));
    const done = changed ? `Paused queue ${queue}` : `Queue ${queue} was paused already`;
    await (values.json ? printJson({ queue, paused: true, changed }) : print(done));
  },
};

interface PauseArguments {
  readonly queue: string;
  readonly by: string;
  readonly values: {
    readonly database?: string | undefined;
    readonly schema?: string | undefined;
    readonly json?: boolean | undefined;
  };
}

/** The arguments of pause and resume. */
export function readPause(attempt: string, args: string[]): PauseArguments {
  const { values, positionals } = parseOptions(attempt, args, {
    ...databaseOptions,
    by: { type: "string" },
    json: { type: "boolean" },
  });
  const [queue, ...more] = positionals;
  if (queue === undefined || more.length > 0) {
    throw new MisuseError(`${attempt}: one queue is wanted, got ${positionals.length}`);
  }
  checked(() => requireQueue(attempt, queue));
  return { queue, by: operator(attempt, values.by), values };
}
