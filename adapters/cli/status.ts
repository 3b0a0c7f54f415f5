import process from "node:process";
import type { CommandSnapshot } from "../../src/index.ts";
import { maxTimeoutMs } from "../../src/limits.ts";
import { connectionOptions, connectionUsage, parseOptions, readId, readInteger } from "./arguments.ts";
import type { CliCommand } from "./commands.ts";
import { withConnection } from "./connection.ts";
import { type ExitCode, exitCode } from "./exit-code.ts";
import { MisuseError } from "./misuse.ts";
import { endedAs, waitForEnd } from "./outcome.ts";
import { fields, table } from "./table.ts";
import { plain, print, printJson, statusColour } from "./terminal.ts";
import { durationText, timeText } from "./words.ts";

const attempt = "Cannot show status";

const options = {
  ...connectionOptions,
  wait: { type: "boolean" },
  "wait-ms": { type: "string" },
  json: { type: "boolean" },
} as const;

export const statusCommand: CliCommand = {
  summary: "shows a command: its status, times, input, output and errors",
  options,
  usage: `Usage: orchestratum status <id> [options]

Shows everything that is known of a command. It is the only one that prints input, output, progress and metadata.

  --wait            waits for its end first, and then prints how it ended, without its output
  --wait-ms         how long to wait, in ms [for ever]
  --json            prints one document
${connectionUsage}

Exit codes:
  0  it succeeded, or has not ended yet
  3  there is no such command
  4  it ended otherwise
  5  with --wait-ms: it has not ended yet

Examples:
  orchestratum status 01999f3e-7c1b-7000-8000-3f2a9f0e6d11
  orchestratum status 01999f3e-7c1b-7000-8000-3f2a9f0e6d11 --json | jq .output
  orchestratum status 01999f3e-7c1b-7000-8000-3f2a9f0e6d11 --wait-ms 60000
`,

  async run(args) {
    const { values, positionals } = parseOptions(attempt, args, options);
    const id = readId(attempt, positionals);
    const timeoutMs = readInteger(attempt, "--wait-ms", values["wait-ms"], 0, maxTimeoutMs);
    const waits = values.wait === true || timeoutMs !== undefined;
    return await withConnection(values, async ({ orchestrator, here }): Promise<ExitCode> => {
      const command = await orchestrator.get(id);
      if (command === undefined) {
        console.error(`${attempt}: there is no command ${id}: it was never pushed, or retention has removed it`);
        return exitCode.unknown;
      }
      if (waits) {
        if (here?.database.name === "pglite" && command.finishedAt === undefined) {
          throw new MisuseError(
            `${attempt}: --wait on a directory would wait for ever, since no worker can have it open beside this process`,
          );
        }
        return await waitForEnd(orchestrator, id, { timeoutMs, json: values.json === true });
      }
      await (values.json ? printJson(command) : print(described(command)));
      return endedAs(command.status);
    });
  },
};

function described(command: CommandSnapshot): string {
  const { startedAt, finishedAt, trail } = command;
  const parts = [
    fields([
      ["id", command.id],
      ["name", command.name],
      ["version", command.version === 1 ? undefined : command.version],
      ["hook", command.hook],
      ["status", command.status, statusColour(command.status)],
      ["queue", command.queue],
      ["priority", command.priority],
      ["attempt", `${command.attempt}, ${command.retriesLeft} left`],
      ["losses", command.losses === 0 ? undefined : command.losses],
      ["timeout", durationText(command.timeoutMs)],
      ["worker", command.worker],
      ["parent", command.parentId],
      ["created", timeText(command.createdAt)],
      ["due", timeText(command.dueAt)],
      [command.status === "running" ? "leased until" : "next attempt", timeText(command.availableAt)],
      ["started", timeText(startedAt)],
      ["finished", timeText(finishedAt)],
      ["took", startedAt && finishedAt && durationText(finishedAt.getTime() - startedAt.getTime())],
      ["cancel requested", timeText(command.cancelRequestedAt)],
      ["no handler since", timeText(command.unknownSince)],
      ["input", jsonText(command.input)],
      ["output", jsonText(command.output)],
      ["progress", jsonText(command.progress)],
      ["metadata", Object.keys(command.metadata).length === 0 ? undefined : jsonText(command.metadata)],
    ]),
  ];
  if (trail.length > 0) {
    parts.push(
      table(trail, [
        { title: "fence", value: ({ fence }) => fence },
        { title: "attempt", value: ({ attempt: number }) => number },
        { title: "started", value: ({ started_at }) => timeText(new Date(started_at)) },
        { title: "ended", value: ({ ended_at }) => timeText(new Date(ended_at)) },
        { title: "worker", value: ({ worker }) => worker, cut: true },
        { title: "code", value: ({ code }) => code, colour: () => "red" },
        { title: "message", value: messageOf, cut: process.stdout.isTTY },
      ]),
    );
  }
  return parts.join("\n\n");
}

/** A lease that was lost has none in what older releases wrote. */
const messageOf = ({ message }: { readonly message?: string | undefined }): string | undefined =>
  message === undefined ? undefined : plain(message);

const jsonText = (value: unknown): string | undefined => (value === undefined ? undefined : JSON.stringify(value));
