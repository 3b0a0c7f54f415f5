/**
 * Statistics in Prometheus' text format. There are no counters: what is counted is of the last 24 hours, and goes down
 * again. Percentiles are summaries, for a gauge may have no label `quantile`; sums and counts, which would have to grow for
 * ever, are left out of them. Workers are left out, since each start would make a series.
 */
import type { Durations, Figures, Stats } from "../../src/index.ts";

type Labels = Readonly<Record<string, string>>;

interface Metric {
  readonly name: string;
  readonly help: string;
  readonly type: "gauge" | "summary";
  samples(figures: Figures, at: Date): readonly (readonly [Labels, number])[];
}

const metrics: readonly Metric[] = [
  {
    name: "orchestratum_live_commands",
    type: "gauge",
    help: "Commands that have not finished.",
    samples: ({ scheduled, pending, running }) => byStatus({ scheduled, pending, running }),
  },
  {
    name: "orchestratum_ended_commands_last_day",
    type: "gauge",
    help: "Commands that ended within the last 24 hours.",
    samples: ({ finished, failed, cancelled }) => byStatus({ succeeded: finished, failed, cancelled }),
  },
  {
    name: "orchestratum_oldest_pending_seconds",
    type: "gauge",
    help: "How long the pending command has been due that has been due for longest.",
    samples: ({ oldestDueAt }, at) =>
      oldestDueAt === undefined ? [] : [[{}, Math.max(at.getTime() - oldestDueAt.getTime(), 0) / 1_000]],
  },
  {
    name: "orchestratum_waiting_last_day_seconds",
    type: "summary",
    help: "From when a command was wanted until its last attempt began.",
    samples: ({ waiting }) => quantiles(waiting),
  },
  {
    name: "orchestratum_execution_last_day_seconds",
    type: "summary",
    help: "From when the last attempt of a command began until it ended.",
    samples: ({ execution }) => quantiles(execution),
  },
];

function byStatus(counts: Readonly<Record<string, number>>): readonly (readonly [Labels, number])[] {
  return Object.entries(counts).map(([status, count]) => [{ status }, count] as const);
}

function quantiles(durations: Durations | undefined): readonly (readonly [Labels, number])[] {
  if (durations === undefined) return [];
  const { p50Ms, p95Ms, p99Ms } = durations;
  return Object.entries({ "0.5": p50Ms, "0.95": p95Ms, "0.99": p99Ms }).map(
    ([quantile, ms]) => [{ quantile }, ms / 1_000] as const,
  );
}

/** Every metric by queue, and under a name of its own by command. */
export function metricsText({ at, queues, names }: Stats): string {
  const lines: string[] = [];
  for (const { name, help, type, samples } of metrics) {
    lines.push(`# HELP ${name} ${help}`, `# TYPE ${name} ${type}`);
    for (const figures of queues) {
      for (const [labels, value] of samples(figures, at))
        lines.push(sample(name, { queue: figures.queue, ...labels }, value));
    }
    const named = name.replace("orchestratum_", "orchestratum_name_");
    lines.push(`# HELP ${named} ${help}`, `# TYPE ${named} ${type}`);
    for (const figures of names) {
      for (const [labels, value] of samples(figures, at))
        lines.push(sample(named, { name: figures.name, ...labels }, value));
    }
  }
  return `${lines.join("\n")}\n`;
}

function sample(name: string, labels: Labels, value: number): string {
  const list = Object.entries(labels).map(([key, text]) => `${key}="${escaped(text)}"`);
  return `${name}{${list.join(",")}} ${value}`;
}

/** Names of commands and queues may hold quotes and backslashes. */
function escaped(text: string): string {
  return text.replaceAll("\\", "\\\\").replaceAll('"', '\\"').replaceAll("\n", "\\n");
}
