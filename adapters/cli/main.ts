#!/usr/bin/env node
/** The command `orchestratum`. Exit codes: 0 done, 1 failed, 2 misused. */

import { readFileSync } from "node:fs";
import process from "node:process";
import { migrateCommand } from "./migrate.ts";
import { MisuseError } from "./misuse.ts";
import { sqlCommand } from "./sql.ts";
import { workCommand } from "./work.ts";

/** One of the commands: what it prints on `--help`, and what it does with the arguments after its name. */
export interface CliCommand {
  readonly usage: string;
  run(args: string[]): Promise<void>;
}

const commands: Readonly<Record<string, CliCommand>> = {
  migrate: migrateCommand,
  sql: sqlCommand,
  work: workCommand,
};

const usage = `Usage: orchestratum <command> [options]

  migrate           brings a database up to date, or goes one step back
  sql               prints what migrate would apply, for psql
  work <module>     runs a worker until it is told to end

orchestratum <command> --help says more.

The database is --database, or else the variable DATABASE_URL: the URL of a PostgreSQL server
(postgres://…), or a directory for the embedded one.

Examples:
  orchestratum migrate --database postgres://localhost/app
  orchestratum work ./handlers.js --database ./data --queues default,mail
`;

async function main(args: string[]): Promise<number> {
  const [name, ...rest] = args;
  if (name === undefined || name === "--help" || name === "-h" || name === "help") {
    console.log(usage);
    return name === undefined ? 2 : 0;
  }
  if (name === "--version") {
    console.log(readVersion());
    return 0;
  }
  const command = Object.hasOwn(commands, name) ? commands[name] : undefined;
  try {
    if (command === undefined) {
      throw new MisuseError(`Cannot run "${name}": the commands are ${Object.keys(commands).join(", ")}`);
    }
    if (rest.includes("--help") || rest.includes("-h")) {
      console.log(command.usage);
      return 0;
    }
    await command.run(rest);
    return 0;
  } catch (error) {
    const misused = isMisuse(error);
    // With its stack and its causes for whoever looks for a fault.
    console.error(misused || process.env.DEBUG === undefined ? messageOf(error) : error);
    if (misused) console.error(`\n${command?.usage ?? usage}`);
    return misused ? 2 : 1;
  }
}

/** Ours, and what `util.parseArgs` refuses. */
const isMisuse = (error: unknown): boolean =>
  error instanceof MisuseError || String((error as { code?: unknown } | null)?.code).startsWith("ERR_PARSE_ARGS_");

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

// Whatever a module that was run has left open must not keep the process.
process.exit(await main(process.argv.slice(2)));
