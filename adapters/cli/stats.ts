import type { Durations, Figures, Stats } from "../../src/statistics.ts";
import { connectionOptions, connectionUsage, parseOptions, refusePositionals } from "./arguments.ts";
import type { CliCommand } from "./commands.ts";
import { withConnection } from "./connection.ts";
import { type Column, table } from "./table.ts";
import { print, printJson } from "./terminal.ts";
import { agoText, durationText, timeText } from "./words.ts";

const attempt = "Cannot read statistics";

const options = {
  ...connectionOptions,
  hooks: { type: "boolean" },
  json: { type: "boolean" },
} as const;

export const statsCommand: CliCommand = {
  summary: "shows how it goes: by queue, by name and by worker",
  options,
  usage: `Usage: orchestratum stats [options]

Shows what is scheduled, pending and running now, and what came of the last 24 hours: how many finished and failed, and
the mean and the 50th, 95th and 99th percentile of waiting and of execution. What has finished is counted by a duty of
the workers, a minute or so later.

  --hooks           counts hook commands, too
  --json            prints one document, {"at", "since", "until", "queues": […], "names": […], "workers": […]}
${connectionUsage}

Examples:
  orchestratum stats
  orchestratum stats --json | jq '.queues[] | select(.pending > 1000)'
`,

  async run(args) {
    const { values, positionals } = parseOptions(attempt, args, options);
    refusePositionals(attempt, positionals);
    const hooks = values.hooks === true;
    const stats = await withConnection(values, ({ orchestrator }) => orchestrator.stats({ hooks }));
    await (values.json ? printJson(stats) : print(described(stats)));
  },
};

function described({ at, since, until, queues, names, workers }: Stats): string {
  const counted =
    until === undefined
      ? "What has finished has not been counted yet: a worker does it."
      : `Finished, failed and times: from ${timeText(since)} to ${timeText(until)}.`;
  if (queues.length === 0 && workers.length === 0)
    return `Nothing lives, and nothing that finished was counted.\n\n${counted}`;
  const figures = figureColumns(at);
  const parts = [
    table(queues, [{ title: "queue", value: ({ queue }) => queue, cut: true }, ...figures]),
    table(names, [{ title: "name", value: ({ name }) => name, cut: true }, ...figures]),
  ];
  if (workers.length > 0) {
    parts.push(
      table(workers, [
        { title: "worker", value: ({ worker }) => worker, cut: true },
        { title: "running", value: ({ running }) => running },
        { title: "finished", value: ({ finished }) => finished },
        { title: "failed", value: ({ failed }) => failed },
        { title: "cancelled", value: ({ cancelled }) => cancelled },
        ...durationColumns,
      ]),
    );
  }
  parts.push(counted);
  return parts.join("\n\n");
}

const durationColumns: Column<Pick<Figures, "waiting" | "execution">>[] = [
  { title: "waiting mean / 50 / 95 / 99 %", value: ({ waiting }) => durationsText(waiting) },
  { title: "execution mean / 50 / 95 / 99 %", value: ({ execution }) => durationsText(execution) },
];

const figureColumns = (at: Date): Column<Figures>[] => [
  { title: "scheduled", value: ({ scheduled }) => scheduled },
  { title: "pending", value: ({ pending }) => pending },
  { title: "running", value: ({ running }) => running },
  { title: "finished", value: ({ finished }) => finished },
  { title: "failed", value: ({ failed }) => failed, colour: ({ failed }) => (failed > 0 ? "red" : undefined) },
  { title: "cancelled", value: ({ cancelled }) => cancelled },
  ...durationColumns,
  {
    title: "oldest due",
    value: ({ oldestDueAt }) => (oldestDueAt === undefined ? undefined : agoText(oldestDueAt, at.getTime())),
  },
];

const durationsText = (durations: Durations | undefined): string | undefined =>
  durations &&
  [durations.meanMs, durations.p50Ms, durations.p95Ms, durations.p99Ms].map((ms) => durationText(ms)).join(" / ");
