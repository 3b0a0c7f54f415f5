/**
 * What a command of the command line asks: an orchestrator on the database that was named, or one far away, behind a
 * router. A command does not know which: it calls methods that both have.
 */

import { existsSync, readdirSync } from "node:fs";
import process from "node:process";
import type { Command } from "../../src/command.ts";
import { type CommandOutcome, createOrchestrator, type Orchestrator } from "../../src/index.ts";
import type { CommandSummary } from "../../src/summary.ts";
import type { WaitOptions } from "../../src/wait-errors.ts";
import type { PushedLine, TailOptions } from "../client/client.ts";
import { type CliDatabase, openDatabase } from "./database.ts";
import { MisuseError } from "./misuse.ts";
import { pushMany } from "./push-many.ts";
import { reaching } from "./reaching.ts";
import { createRemote } from "./remote.ts";
import { requireSchema } from "./schema.ts";
import { tailOf } from "./tail-of.ts";

/** What is shared by an orchestrator here and one that is asked over HTTP. */
export interface Reached
  extends Pick<
    Orchestrator,
    | "get"
    | "list"
    | "timeline"
    | "explain"
    | "stats"
    | "queues"
    | "workerList"
    | "duties"
    | "cancel"
    | "retry"
    | "erase"
    | "pauseQueue"
    | "resumeQueue"
    | "pauseName"
    | "resumeName"
    | "pausedNames"
  > {
  push(command: Command, options: KeyOptions): Promise<{ readonly id: string }>;
  /** What came of each, in their order. What was pushed before it throws stays. */
  pushMany(commands: AsyncIterable<Command>, options: KeyOptions): AsyncIterable<PushedLine>;
  waitFor(id: string, options?: WaitOptions): Promise<CommandOutcome>;
  tail(options: TailOptions): AsyncIterable<CommandSummary>;
}

/** What a push over HTTP is known by; a database goes by ids. */
export interface KeyOptions {
  readonly key: string | undefined;
}

export interface Connection {
  readonly orchestrator: Reached;
  /** Where it is on a database. */
  readonly here: { readonly database: CliDatabase; readonly schema: string } | undefined;
}

export interface DatabaseConnection {
  readonly orchestrator: Orchestrator;
  readonly database: CliDatabase;
  readonly schema: string;
}

export interface DatabaseValues {
  readonly database?: string | undefined;
  readonly schema?: string | undefined;
}

/** Options as they were given; those of other commands are undefined. */
export interface ConnectionValues extends DatabaseValues {
  readonly url?: string | undefined;
  readonly token?: string | undefined;
  readonly by?: string | undefined;
  readonly id?: string | undefined;
  readonly key?: string | undefined;
}

/** Reaches what the options name, and lets go of it whatever becomes of `work`. */
export async function withConnection<T>(
  values: ConnectionValues,
  work: (connection: Connection) => Promise<T>,
): Promise<T> {
  const url = urlOf(values);
  if (url !== undefined) {
    refuse(values, onDatabaseOnly);
    return await work({ orchestrator: createRemote(url, values.token), here: undefined });
  }
  refuse(values, overHttpOnly);
  if (!values.database && !process.env.DATABASE_URL) {
    throw new MisuseError(
      "Cannot reach an orchestrator: say which by --database or DATABASE_URL, or by --url or ORCHESTRATUM_URL",
    );
  }
  return await withDatabase(values, ({ orchestrator, database, schema }) =>
    work({ orchestrator: reach(orchestrator), here: { database, schema } }),
  );
}

/** Opens the database that the options name, and closes it whatever becomes of `work`. Nothing is made where there is none. */
export async function withDatabase<T>(
  values: DatabaseValues,
  work: (connection: DatabaseConnection) => Promise<T>,
): Promise<T> {
  const schema = requireSchema(values.schema);
  requireExisting(values.database ?? process.env.DATABASE_URL);
  const database = await openDatabase(values.database);
  try {
    return await reaching(database.place, async () => {
      const orchestrator = createOrchestrator({ database, schema });
      try {
        return await work({ orchestrator, database, schema });
      } finally {
        await orchestrator.stop();
      }
    });
  } finally {
    await database.close();
  }
}

/** What was typed counts before what the environment says, and of that a URL, since nothing else would set it. */
function urlOf({ url, database }: ConnectionValues): string | undefined {
  if (url !== undefined && database !== undefined) {
    throw new MisuseError("Cannot reach an orchestrator: --database and --url are given, of which it can have one");
  }
  return url ?? (database === undefined ? process.env.ORCHESTRATUM_URL || undefined : undefined);
}

type Reasons = Readonly<Partial<Record<keyof ConnectionValues, string>>>;

const onDatabaseOnly: Reasons = {
  schema: "the server has a schema of its own",
  by: "the server records whose token it is",
  id: "the server makes ids; with --key a push can be repeated",
};

const overHttpOnly: Reasons = {
  token: "it is for --url or ORCHESTRATUM_URL",
  key: "it is for pushes over HTTP; with --id a push can be repeated",
};

function refuse(values: ConnectionValues, reasons: Reasons): void {
  for (const [option, reason] of Object.entries(reasons)) {
    if (values[option as keyof ConnectionValues] === undefined) continue;
    throw new MisuseError(`Cannot take --${option} here: ${reason}`);
  }
}

/** An orchestrator here, by the methods that one far away has, too. */
function reach(orchestrator: Orchestrator): Reached {
  return {
    ...orchestrator,
    push: (command) => orchestrator.push(command),
    pushMany: (commands) => pushMany(orchestrator, commands),
    tail: (options) => tailOf(orchestrator, options),
  };
}

/** A mistyped directory would be made, filled with a new database, and answer that there is nothing. */
function requireExisting(target: string | undefined): void {
  if (!target || /^\w+:\/\//.test(target)) return;
  if (existsSync(target) && readdirSync(target).length > 0) return;
  throw new Error(
    `Cannot open database "${target}": there is none in this directory; \`orchestratum migrate --database ${target}\` makes one`,
  );
}
