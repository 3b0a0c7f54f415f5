import type { DutyState, FleetWorker } from "../../src/fleet.ts";
import { connectionOptions, connectionUsage, parseOptions, refusePositionals } from "./arguments.ts";
import type { CliCommand } from "./commands.ts";
import { withConnection } from "./connection.ts";
import { type Column, table } from "./table.ts";
import { print, printJson } from "./terminal.ts";
import { agoText, durationText } from "./words.ts";

const attempt = "Cannot list workers";

const options = { ...connectionOptions, json: { type: "boolean" } } as const;

export const workersCommand: CliCommand = {
  summary: "lists workers, running, lost and stopped, and the duties that they do",
  options,
  usage: `Usage: orchestratum workers [options]

Lists the workers that were heard of in the last 24 hours, with what each runs now and has ended in that time, and the
duties: when each was done last, how long it took, and what went wrong. A worker that was not heard of when it had to be
is lost.

  --json            prints one document, {"workers": […], "duties": […]}
${connectionUsage}

Examples:
  orchestratum workers
  orchestratum workers --json | jq -r '.workers[] | select(.status == "lost") | .host'
`,

  async run(args) {
    const { values, positionals } = parseOptions(attempt, args, options);
    refusePositionals(attempt, positionals);
    const { workers, duties } = await withConnection(values, async ({ orchestrator }) => ({
      workers: await orchestrator.workerList(),
      duties: await orchestrator.duties(),
    }));
    await (values.json ? printJson({ workers, duties }) : print(described(workers, duties)));
  },
};

function described(workers: readonly FleetWorker[], duties: readonly DutyState[]): string {
  const parts = [
    workers.length === 0
      ? "No worker was heard of in the last 24 hours"
      : table(workers, [
          { title: "worker", value: ({ id }) => id, cut: true },
          { title: "status", value: ({ status }) => status, colour: ({ status }) => colours[status] },
          { title: "running", value: ({ running }) => running },
          { title: "of", value: ({ concurrency }) => concurrency },
          { title: "finished", value: ({ finished }) => finished },
          { title: "failed", value: ({ failed }) => failed, colour: ({ failed }) => (failed > 0 ? "red" : undefined) },
          { title: "mean", value: ({ meanExecutionMs: ms }) => (ms === undefined ? undefined : durationText(ms)) },
          { title: "queues", value: ({ queues }) => queues.join(","), cut: true },
          { title: "host", value: ({ host }) => host, cut: true },
          { title: "runtime", value: ({ runtime }) => runtime, cut: true },
          { title: "started", value: ({ startedAt }) => agoText(startedAt) },
          { title: "last seen", value: ({ lastSeenAt }) => agoText(lastSeenAt) },
        ]),
  ];
  if (duties.length > 0) parts.push(table(duties, dutyColumns()));
  return parts.join("\n\n");
}

const colours = { running: "green", lost: "red", stopped: "dim" } as const;

const dutyColumns = (): Column<DutyState>[] => [
  { title: "duty", value: ({ name }) => name, cut: true },
  { title: "last done", value: ({ lastFinishedAt }) => lastFinishedAt && agoText(lastFinishedAt) },
  { title: "took", value: ({ lastDurationMs: ms }) => (ms === undefined ? undefined : durationText(ms)) },
  // A rescan without work in its queue is not done, however long ago it could have been.
  { title: "next", value: ({ nextRunAt }) => (nextRunAt.getTime() > Date.now() ? agoText(nextRunAt) : undefined) },
  { title: "by", value: ({ worker, lastWorker }) => worker ?? lastWorker, cut: true },
  { title: "error", value: ({ lastError }) => lastError, colour: () => "red", cut: true },
];
