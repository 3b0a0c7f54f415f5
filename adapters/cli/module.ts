/** The module that `work` and `serve` run: it has an orchestrator, or handlers that one is made of. */

import { resolve } from "node:path";
import process from "node:process";
import { pathToFileURL } from "node:url";
import { createOrchestrator, type Handler, type Orchestrator } from "../../src/index.ts";
import { dayMs, maxConcurrency, requireQueue } from "../../src/limits.ts";
import { handlersFrom } from "../handlers-from.ts";
import { logObservations } from "../log-observations.ts";
import type { RunWorkerOptions } from "../run-worker.ts";
import { checked, databaseOptions, databaseUsage, readInteger } from "./arguments.ts";
import type { DatabaseValues } from "./connection.ts";
import { openDatabase } from "./database.ts";
import { isFolder, loadFailure } from "./load-failure.ts";
import { MisuseError } from "./misuse.ts";
import { reaching } from "./reaching.ts";
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
    ...(values.queues !== undefined && { queues: readQueues(attempt, values.queues) }),
    ...numberOption(attempt, "concurrency", "concurrency", values.concurrency, 1, maxConcurrency),
    ...numberOption(attempt, "graceMs", "grace-ms", values["grace-ms"], 0, dayMs),
  };
  const schema = requireSchema(values.schema);
  const module = await load(path);
  const run = async (orchestrator: Orchestrator, place: string | undefined): Promise<void> => {
    logObservations(orchestrator, { level: values.verbose ? "debug" : "info" });
    if (values.migrate) await reaching(place, () => orchestrator.migrate());
    await work({ orchestrator, exported: Array.isArray(module) ? {} : module, options });
  };

  const own = Array.isArray(module) ? undefined : [module.default, module.orchestrator].find(isOrchestrator);
  if (own !== undefined) {
    if (values.database !== undefined || values.schema !== undefined) {
      throw new MisuseError(`${attempt}: the module's orchestrator has a database; leave out --database and --schema`);
    }
    await run(own, "the address that the module gives");
    return;
  }
  const database = await openDatabase(values.database);
  try {
    await run(createOrchestrator({ database, schema, handlers: module }), database.place);
  } finally {
    await database.close();
  }
}

/** The library would name its own option. */
function numberOption(
  attempt: string,
  key: string,
  name: string,
  text: string | undefined,
  min: number,
  max: number,
): Record<string, number> {
  const value = readInteger(attempt, `--${name}`, text, min, max);
  return value === undefined ? {} : { [key]: value };
}

function readQueues(attempt: string, text: string): string[] {
  const queues = text.split(",").map((queue) => queue.trim());
  if (queues.includes("")) throw new MisuseError(`${attempt}: --queues has an empty name, got ${JSON.stringify(text)}`);
  for (const queue of queues) checked(() => requireQueue(attempt, queue));
  return queues;
}

async function load(path: string): Promise<Record<string, unknown> | Handler[]> {
  const file = resolve(process.cwd(), path);
  try {
    return isFolder(file)
      ? await handlersFrom(file)
      : ((await import(pathToFileURL(file).href)) as Record<string, unknown>);
  } catch (error) {
    // What is wrong with the folder itself is said already.
    if (error instanceof TypeError && error.message.startsWith("Cannot take handlers from ")) throw error;
    throw loadFailure(path, error);
  }
}

/** By what it can do: the module may come with another copy of the library. */
const isOrchestrator = (value: unknown): value is Orchestrator =>
  typeof (value as Partial<Orchestrator> | undefined)?.startWorker === "function";
