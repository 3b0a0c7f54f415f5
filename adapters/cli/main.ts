#!/usr/bin/env node
/** The command `orchestratum`: finds the command that is named, and turns what becomes of it into an exit code. */

import process from "node:process";
import { InvalidInputError } from "../../src/index.ts";
import { HttpProblemError } from "../client/client.ts";
import { type CliCommand, commands } from "./commands.ts";
import { type ExitCode, exitCode } from "./exit-code.ts";
import { MisuseError } from "./misuse.ts";
import { didYouMean } from "./nearest.ts";
import { ownPackage } from "./own-package.ts";
import { reasonOf } from "./reason.ts";
import { print } from "./terminal.ts";

const usage = `Usage: orchestratum <command> [options]

${Object.entries(commands)
  .map(([name, { summary }]) => `  ${name.padEnd(12)}${summary}`)
  .join("\n")}

orchestratum <command> --help says more; orchestratum --version tells the release.

The database is --database, or else the variable DATABASE_URL: the URL of a PostgreSQL server
(postgres://…), or a directory for the embedded one. Only one process at a time can have a directory open.
Most commands need none, and ask over HTTP where --url, or the variable ORCHESTRATUM_URL, says where a router is
mounted, with --token or ORCHESTRATUM_TOKEN. An option counts before a variable, ORCHESTRATUM_URL before DATABASE_URL.

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
  orchestratum serve ./orchestrator.js --port 8080
  orchestratum list --status failed --from 1h
  orchestratum tail --url https://app.example.com/jobs
  orchestratum retry --name send_email --from 1h --dry-run
`;

async function main(args: string[]): Promise<ExitCode> {
  const [name, ...rest] = args;
  if (name === undefined || name === "--help" || name === "-h" || name === "help") {
    const about = name === "help" && rest[0] !== undefined ? commandOf(rest[0]) : undefined;
    await print((about?.usage ?? usage).trimEnd());
    return name === undefined ? exitCode.misused : exitCode.done;
  }
  if (name === "--version") {
    await print(ownPackage()?.version ?? "unknown");
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

/** What somebody typed, and what a command's own checks refuse before anything is sent, or a server's checks. */
const isMisuse = (error: unknown): boolean =>
  error instanceof MisuseError ||
  error instanceof InvalidInputError ||
  (error instanceof HttpProblemError && error.type === "urn:orchestratum:problem:invalid");

function messageOf(error: unknown): string {
  if (error instanceof HttpProblemError && error.status === 401) {
    return `${error.message}: pass --token, or set ORCHESTRATUM_TOKEN`;
  }
  return reasonOf(error);
}

// A reader that has gone is told by each write.
process.stdout.on("error", () => {});
// Whatever a module that was run has left open must not keep the process.
process.exit(await main(process.argv.slice(2)));
