#!/usr/bin/env node
/** The command `orchestratum`: finds the command that is named, and turns what becomes of it into an exit code. */

import { readFileSync } from "node:fs";
import process from "node:process";
import { InvalidInputError } from "../../src/index.ts";
import { cancelCommand } from "./cancel.ts";
import { doctorCommand } from "./doctor.ts";
import { eraseCommand } from "./erase.ts";
import { type ExitCode, exitCode } from "./exit-code.ts";
import { explainCommand } from "./explain.ts";
import { initCommand } from "./init.ts";
import { listCommand } from "./list.ts";
import { migrateCommand } from "./migrate.ts";
import { MisuseError } from "./misuse.ts";
import { didYouMean } from "./nearest.ts";
import { pauseCommand } from "./pause.ts";
import { pushCommand } from "./push.ts";
import { queuesCommand } from "./queues.ts";
import { resumeCommand } from "./resume.ts";
import { retryCommand } from "./retry.ts";
import { sqlCommand } from "./sql.ts";
import { statsCommand } from "./stats.ts";
import { statusCommand } from "./status.ts";
import { print } from "./terminal.ts";
import { timelineCommand } from "./timeline.ts";
import { workCommand } from "./work.ts";
import { workersCommand } from "./workers.ts";

/** One of the commands: what it prints on `--help`, and what it does with the arguments after its name. */
export interface CliCommand {
  /** One line for the list of commands. */
  readonly summary: string;
  /** Begins with `Usage: orchestratum <its name>`. */
  readonly usage: string;
  /** @returns how it ended; nothing is done. */
  run(args: string[]): Promise<ExitCode | void>;
}

const commands: Readonly<Record<string, CliCommand>> = {
  init: initCommand,
  migrate: migrateCommand,
  sql: sqlCommand,
  work: workCommand,
  push: pushCommand,
  status: statusCommand,
  timeline: timelineCommand,
  explain: explainCommand,
  list: listCommand,
  stats: statsCommand,
  queues: queuesCommand,
  workers: workersCommand,
  doctor: doctorCommand,
  cancel: cancelCommand,
  retry: retryCommand,
  pause: pauseCommand,
  resume: resumeCommand,
  erase: eraseCommand,
};

const usage = `Usage: orchestratum <command> [options]

${Object.entries(commands)
  .map(([name, { summary }]) => `  ${name.padEnd(10)}${summary}`)
  .join("\n")}

orchestratum <command> --help says more; orchestratum --version tells the release.

The database is --database, or else the variable DATABASE_URL: the URL of a PostgreSQL server
(postgres://…), or a directory for the embedded one. Only one process at a time can have a directory open.

Exit codes:
  ${exitCode.done}  done
  ${exitCode.failed}  failed: an error
  ${exitCode.misused}  misused: the message says what was wrong
  ${exitCode.unknown}  there is no such command
  ${exitCode.ended}  the command ended otherwise than succeeded
  ${exitCode.partly}  not all of it was done: something was busy, running or had ended before, or a time ran out
  ${exitCode.warned}  the doctor warns
  ${exitCode.ailing}  the doctor found an error

Examples:
  orchestratum init my-app
  orchestratum migrate --database postgres://localhost/app
  orchestratum work ./handlers.js --database ./data --queues default,mail
  orchestratum push send_email '{"to": "ada@example.com"}' --wait
  orchestratum list --status failed --from 1h
  orchestratum retry --name send_email --status failed --dry-run
`;

async function main(args: string[]): Promise<ExitCode> {
  const [name, ...rest] = args;
  if (name === undefined || name === "--help" || name === "-h" || name === "help") {
    const about = name === "help" && rest[0] !== undefined ? commandOf(rest[0]) : undefined;
    await print((about?.usage ?? usage).trimEnd());
    return name === undefined ? exitCode.misused : exitCode.done;
  }
  if (name === "--version") {
    await print(readVersion());
    return exitCode.done;
  }
  const command = commandOf(name);
  try {
    if (command === undefined) {
      const hint = didYouMean(name, Object.keys(commands)) || `; the commands are ${Object.keys(commands).join(", ")}`;
      throw new MisuseError(`Cannot run "${name}": there is no such command${hint}`);
    }
    const end = rest.includes("--") ? rest.indexOf("--") : rest.length;
    if (rest.slice(0, end).some((word) => word === "--help" || word === "-h")) {
      await print(command.usage.trimEnd());
      return exitCode.done;
    }
    return (await command.run(rest)) ?? exitCode.done;
  } catch (error) {
    // Whoever read what was printed has seen enough: `orchestratum list | head`.
    if ((error as { code?: unknown } | null)?.code === "EPIPE") return exitCode.done;
    const misused = isMisuse(error);
    // With its stack and its causes for whoever looks for a fault.
    console.error(misused || process.env.DEBUG === undefined ? messageOf(error) : error);
    if (misused) console.error(`\n${hintOf(name, command)}`);
    return misused ? exitCode.misused : exitCode.failed;
  }
}

const commandOf = (name: string): CliCommand | undefined =>
  Object.hasOwn(commands, name) ? commands[name] : undefined;

/** How it is used, in as few lines as will do: the reason stands above, and should stay in sight. */
function hintOf(name: string, command: CliCommand | undefined): string {
  const [first] = (command?.usage ?? usage).split("\n");
  return `${first}\norchestratum ${command === undefined ? "" : `${name} `}--help says more.`;
}

/** What somebody typed, and what a command's own checks refuse before anything is sent. */
const isMisuse = (error: unknown): boolean => error instanceof MisuseError || error instanceof InvalidInputError;

function messageOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  // An error of the network may have nothing but a code (Node's AggregateError of refused connections).
  const code = (error as { code?: unknown }).code;
  return error.message || (typeof code === "string" ? code : error.name);
}

/** This file is adapters/cli/main.ts, or that below dist. */
function readVersion(): string {
  for (const folder of ["../..", "../../.."]) {
    try {
      const { name, version } = JSON.parse(readFileSync(new URL(`${folder}/package.json`, import.meta.url), "utf8"));
      if (name === "orchestratum") return version;
    } catch {
      // Not there: one further up.
    }
  }
  return "unknown";
}

// A reader that has gone is told by each write.
process.stdout.on("error", () => {});
// Whatever a module that was run has left open must not keep the process.
process.exit(await main(process.argv.slice(2)));
