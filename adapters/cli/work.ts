import { statSync } from "node:fs";
import { resolve } from "node:path";
import process from "node:process";
import { pathToFileURL } from "node:url";
import { createOrchestrator, type Orchestrator } from "../../src/index.ts";
import { handlersFrom, logObservations, type RunWorkerOptions, runWorker } from "../node.ts";
import { databaseOptions, parseOptions } from "./arguments.ts";
import { openDatabase } from "./database.ts";
import type { CliCommand } from "./main.ts";
import { MisuseError } from "./misuse.ts";
import { requireSchema } from "./schema.ts";

export const workCommand: CliCommand = {
  summary: "runs a worker until it is told to end",
  usage: `Usage: orchestratum work <module or folder> [options]

Runs a worker until SIGTERM or SIGINT: running handlers then have time to finish; a second signal aborts them.
The module's default export is an orchestrator, or its named exports are handlers, which then need a database.
Of a folder, the handlers of all its modules are taken, those of its subfolders among them.

  --database        postgres://…, or a directory for the embedded database [DATABASE_URL]
  --schema          the name of the schema [orchestratum]
  --queues          the queues to serve, with commas between them [default]
  --concurrency     how many handlers run at once [100]
  --grace-ms        how long they may take to finish after a signal [20000]
  --migrate         brings the schema up to date first
  --verbose         logs each start and end of a command, too

Examples:
  orchestratum work ./orchestrator.js --concurrency 50
  orchestratum work ./commands/ --database ./data --migrate
  orchestratum work ./handlers.js --database postgres://localhost/app --queues default,mail
  node --import tsx node_modules/.bin/orchestratum work ./handlers.ts --database ./data --migrate
`,

  async run(args) {
    const { values, positionals } = parseOptions("Cannot work", args, {
      ...databaseOptions,
      queues: { type: "string" },
      concurrency: { type: "string" },
      "grace-ms": { type: "string" },
      migrate: { type: "boolean" },
      verbose: { type: "boolean" },
    });
    const [path, ...more] = positionals;
    if (path === undefined || more.length > 0) {
      throw new MisuseError(`Cannot work: one module or folder is wanted, got ${positionals.length}`);
    }
    const options = {
      ...(values.queues !== undefined && { queues: values.queues.split(",").map((queue) => queue.trim()) }),
      ...numberOption("concurrency", "concurrency", values.concurrency),
      ...numberOption("graceMs", "grace-ms", values["grace-ms"]),
    };
    const schema = requireSchema(values.schema);
    const module = isFolder(path) ? await handlersFrom(resolve(process.cwd(), path)) : await load(path);
    if (!Array.isArray(module) && isOrchestrator(module.default)) {
      if (values.database !== undefined || values.schema !== undefined) {
        throw new MisuseError(
          "Cannot work: the module's orchestrator has a database; leave out --database and --schema",
        );
      }
      await run(module.default, options, values);
      return;
    }
    const database = await openDatabase(values.database);
    try {
      await run(createOrchestrator({ database, schema, handlers: module }), options, values);
    } finally {
      await database.close();
    }
  },
};

async function run(
  orchestrator: Orchestrator,
  options: RunWorkerOptions,
  { migrate, verbose }: { migrate?: boolean | undefined; verbose?: boolean | undefined },
): Promise<void> {
  logObservations(orchestrator, { level: verbose ? "debug" : "info" });
  if (migrate) await orchestrator.migrate();
  await runWorker(orchestrator, options);
}

function numberOption(key: string, name: string, text: string | undefined): Record<string, number> {
  if (text === undefined) return {};
  if (!/^\d+$/.test(text))
    throw new MisuseError(`Cannot work as --${name} must be a number: current value is "${text}"`);
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
