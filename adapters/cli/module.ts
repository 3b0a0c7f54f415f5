/** The module that `work` and `serve` run: it has an orchestrator, or handlers that one is made of. */

import { statSync } from "node:fs";
import { resolve } from "node:path";
import process from "node:process";
import { pathToFileURL } from "node:url";
import { createOrchestrator, type Orchestrator } from "../../src/index.ts";
import { handlersFrom } from "../handlers-from.ts";
import { logObservations } from "../log-observations.ts";
import type { RunWorkerOptions } from "../run-worker.ts";
import { databaseOptions, databaseUsage } from "./arguments.ts";
import type { DatabaseValues } from "./connection.ts";
import { openDatabase } from "./database.ts";
import { MisuseError } from "./misuse.ts";
import { requireSchema } from "./schema.ts";

const ownOptions = {
  queues: { type: "string" },
  concurrency: { type: "string" },
  "grace-ms": { type: "string" },
  migrate: { type: "boolean" },
  verbose: { type: "boolean" },
} as const;

export const workerOptions: typeof databaseOptions & typeof ownOptions = { ...databaseOptions, ...ownOptions };

export const workerUsage: string = `${databaseUsage}
  --queues          the queues to serve, with commas between them [default]
  --concurrency     how many handlers run at once [100]
  --grace-ms        how long they may take to finish after a signal [20000]
  --migrate         brings the schema up to date first
  --verbose         logs each start and end of a command, too`;

export interface WorkerValues extends DatabaseValues {
  readonly queues?: string | undefined;
  readonly concurrency?: string | undefined;
  readonly "grace-ms"?: string | undefined;
  readonly migrate?: boolean | undefined;
  readonly verbose?: boolean | undefined;
}

export interface Loaded {
  readonly orchestrator: Orchestrator;
  /** What the module exports; nothing where it is a folder. */
  readonly exported: Readonly<Record<string, unknown>>;
  readonly options: RunWorkerOptions;
}

/**
 * Loads what was named, and runs `work` with its orchestrator, which is observed and migrated where that was asked for.
 *
 * @param attempt `Cannot work`
 */
export async function withModule(
  attempt: string,
  positionals: readonly string[],
  values: WorkerValues,
  work: (loaded: Loaded) => Promise<void>,
): Promise<void> {
  const [path, ...more] = positionals;
  if (path === undefined || more.length > 0) {
    throw new MisuseError(`${attempt}: one module or folder is wanted, got ${positionals.length}`);
  }
  const options = {
    ...(values.queues !== undefined && { queues: values.queues.split(",").map((queue) => queue.trim()) }),
    ...numberOption(attempt, "concurrency", "concurrency", values.concurrency),
    ...numberOption(attempt, "graceMs", "grace-ms", values["grace-ms"]),
  };
  const schema = requireSchema(values.schema);
  const module = isFolder(path) ? await handlersFrom(resolve(process.cwd(), path)) : await load(path);
  const run = async (orchestrator: Orchestrator): Promise<void> => {
    logObservations(orchestrator, { level: values.verbose ? "debug" : "info" });
    if (values.migrate) await orchestrator.migrate();
    await work({ orchestrator, exported: Array.isArray(module) ? {} : module, options });
  };

  const own = Array.isArray(module) ? undefined : [module.default, module.orchestrator].find(isOrchestrator);
  if (own !== undefined) {
    if (values.database !== undefined || values.schema !== undefined) {
      throw new MisuseError(`${attempt}: the module's orchestrator has a database; leave out --database and --schema`);
    }
    await run(own);
    return;
  }
  const database = await openDatabase(values.database);
  try {
    await run(createOrchestrator({ database, schema, handlers: module }));
  } finally {
    await database.close();
  }
}

function numberOption(attempt: string, key: string, name: string, text: string | undefined): Record<string, number> {
  if (text === undefined) return {};
  if (!/^\d+$/.test(text))
    throw new MisuseError(`${attempt} as --${name} must be a number: current value is "${text}"`);
  return { [key]: Number(text) };
}

const isFolder = (path: string): boolean =>
  statSync(resolve(process.cwd(), path), { throwIfNoEntry: false })?.isDirectory() === true;

async function load(path: string): Promise<Record<string, unknown>> {
  const file = resolve(process.cwd(), path);
  try {
    return (await import(pathToFileURL(file).href)) as Record<string, unknown>;
  } catch (error) {
    const { code, message } = error as { code?: unknown; message?: unknown };
    if (code === "ERR_UNKNOWN_FILE_EXTENSION" && /\.m?ts\b/.test(path)) {
      throw new Error(
        `Cannot load "${path}": this Node does not run TypeScript; use Node 22.18 or newer, or node --import tsx`,
        { cause: error },
      );
    }
    if (code === "ERR_MODULE_NOT_FOUND" && String(message).includes(file)) {
      throw new MisuseError(`Cannot load "${path}": there is no such file`);
    }
    throw error;
  }
}

/** By what it can do: the module may come with another copy of the library. */
const isOrchestrator = (value: unknown): value is Orchestrator =>
  typeof (value as Partial<Orchestrator> | undefined)?.startWorker === "function";
