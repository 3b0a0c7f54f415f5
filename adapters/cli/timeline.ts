import type { Timeline, TimelineEntry } from "../../src/timeline.ts";
import { connectionOptions, connectionUsage, parseOptions, readId } from "./arguments.ts";
import type { CliCommand } from "./commands.ts";
import { withConnection } from "./connection.ts";
import { exitCode } from "./exit-code.ts";
import { table } from "./table.ts";
import { paint, plain, print, printJson, statusColour } from "./terminal.ts";
import { durationText, timeText } from "./words.ts";

const attempt = "Cannot show timeline";

const options = { ...connectionOptions, json: { type: "boolean" } } as const;

export const timelineCommand: CliCommand = {
  summary: "shows what happened to a command, in order, and what it caused",
  options,
  usage: `Usage: orchestratum timeline <id> [options]

Shows when a command was pushed, each lease that is known of it with its worker and its end, when it finished, and the
hooks and follow-ups that it caused. It prints no inputs and no outputs.

  --json            prints one document, {"command": …, "entries": […], "children": […], "truncated": …}
${connectionUsage}

Exit codes:
  0  done
  3  there is no such command

Examples:
  orchestratum timeline 01999f3e-7c1b-7000-8000-3f2a9f0e6d11
`,

  async run(args) {
    const { values, positionals } = parseOptions(attempt, args, options);
    const id = readId(attempt, positionals);
    const timeline = await withConnection(values, ({ orchestrator }) => orchestrator.timeline(id));
    if (timeline === undefined) {
      console.error(`${attempt}: there is no command ${id}: it was never pushed, or retention has removed it`);
      return exitCode.unknown;
    }
    await (values.json ? printJson(timeline) : print(described(timeline)));
    return exitCode.done;
  },
};

function described({ command, entries, children, truncated }: Timeline): string {
  const status = paint(command.status, statusColour(command.status));
  const parts = [
    `${command.id}  ${plain(command.name)}  ${status}`,
    table(entries, [
      { title: "at", value: ({ at }) => timeText(at) },
      { title: "what", value: what, colour: colourOf },
      { title: "took", value: (entry) => tookText(entry) },
      { title: "worker", value: (entry) => (entry.kind === "leased" ? entry.worker : undefined), cut: true },
      { title: "error", value: errorText, cut: true },
    ]),
  ];
  if (children.length > 0) {
    parts.push(
      table(children, [
        { title: "caused", value: ({ id }) => id },
        { title: "name", value: ({ name, hook }) => (hook ? `${name} (${hook})` : name), cut: true },
        { title: "status", value: (child) => child.status, colour: (child) => statusColour(child.status) },
        { title: "created", value: ({ createdAt }) => timeText(createdAt) },
      ]),
    );
  }
  if (truncated) parts.push(`More: orchestratum list --parent ${command.id}`);
  return parts.join("\n\n");
}

const what = (entry: TimelineEntry): string =>
  entry.kind === "leased" ? `leased: ${entry.end ?? "running"}` : entry.kind === "finished" ? entry.status : entry.kind;

const colourOf = (entry: TimelineEntry) => {
  if (entry.kind === "pushed") return undefined;
  return statusColour(
    entry.kind === "finished" ? entry.status : entry.end === "lost" ? "failed" : (entry.end ?? "running"),
  );
};

const tookText = (entry: TimelineEntry): string | undefined =>
  entry.kind === "leased" && entry.to !== undefined ? durationText(entry.to.getTime() - entry.at.getTime()) : undefined;

function errorText(entry: TimelineEntry): string | undefined {
  if (entry.kind !== "leased" || entry.error === undefined) return undefined;
  const { code, message } = entry.error;
  return [code, message].filter(Boolean).join(": ");
}
