import { requireName, requireQueue } from "../../src/limits.ts";
import { checked, connectionOptions, connectionUsage, parseOptions } from "./arguments.ts";
import type { CliCommand } from "./commands.ts";
import { type ConnectionValues, type Reached, withConnection } from "./connection.ts";
import { MisuseError } from "./misuse.ts";
import { didYouMean } from "./nearest.ts";
import { byUsage, operator } from "./operator.ts";
import { print, printJson } from "./terminal.ts";

const attempt = "Cannot pause";

const ownOptions = {
  by: { type: "string" },
  name: { type: "string" },
  json: { type: "boolean" },
} as const;

/** The options of pause and resume. */
export const pauseOptions: typeof connectionOptions & typeof ownOptions = { ...connectionOptions, ...ownOptions };

export const pauseCommand: CliCommand = {
  summary: "pauses a queue, or the commands of a name: nothing more of it is started",
  options: pauseOptions,
  usage: `Usage: orchestratum pause <queue> [options]
       orchestratum pause --name <name> [options]

Pauses a queue, or the commands of a name in whatever queue: workers start nothing more of it, within a second where
notifications arrive and else at their next look. What runs is not disturbed, and what is pushed waits.

  --name            the name of the commands to pause, in place of a queue
${byUsage}
  --json            prints one document, {"queue": … or "name": …, "paused": true, "changed": …}
${connectionUsage}

Examples:
  orchestratum pause mail
  orchestratum pause mail --by "deployment 1.8"
  orchestratum pause --name send_email
`,

  async run(args) {
    const { target, by, values } = readPause(attempt, args);
    const changed = await withConnection(values, async ({ orchestrator }) => {
      if ("name" in target) return await orchestrator.pauseName(target.name, { by });
      const paused = await orchestrator.pauseQueue(target.queue, { by });
      await tellUnused(orchestrator, target.queue);
      return paused;
    });
    const what = told(target);
    const done = changed ? `Paused ${what}` : `${what[0]?.toUpperCase()}${what.slice(1)} was paused already`;
    await (values.json ? printJson({ ...target, paused: true, changed }) : print(done));
  },
};

/** A mistyped queue is paused like any other. Whoever may not ask for queues and workers is told nothing. */
async function tellUnused(orchestrator: Reached, queue: string): Promise<void> {
  try {
    const served = (await orchestrator.workerList()).filter(({ status }) => status === "running");
    const names = new Set(served.flatMap(({ queues }) => queues));
    if (names.has(queue)) return;
    for (const state of await orchestrator.queues({ hooks: true })) {
      const lives = state.scheduled + state.pending + state.running > 0;
      if (lives && state.queue === queue) return;
      if (lives) names.add(state.queue);
    }
    const hint = didYouMean(queue, names) || ": is that its name?";
    console.error(`No worker serves queue "${queue}", and nothing waits in it${hint}`);
  } catch {
    // It is paused, which is what was asked for.
  }
}

type Target = { readonly queue: string } | { readonly name: string };

interface PauseArguments {
  readonly target: Target;
  readonly by: string;
  readonly values: ConnectionValues & { readonly json?: boolean | undefined };
}

export const told = (target: Target): string => ("name" in target ? `name ${target.name}` : `queue ${target.queue}`);

/** The arguments of pause and resume. */
export function readPause(attempt: string, args: string[]): PauseArguments {
  const { values, positionals } = parseOptions(attempt, args, pauseOptions);
  const { name } = values;
  const [queue, ...more] = positionals;
  const by = () => operator(attempt, values.by);
  if (name !== undefined && queue === undefined) {
    checked(() => requireName(attempt, name));
    return { target: { name }, by: by(), values };
  }
  if (queue === undefined || more.length > 0 || name !== undefined) {
    const got = `${positionals.length}${name === undefined ? "" : " and a name"}`;
    throw new MisuseError(`${attempt}: one queue, or a name by --name, is wanted, got ${got}`);
  }
  checked(() => requireQueue(attempt, queue));
  return { target: { queue }, by: by(), values };
}
