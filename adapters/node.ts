/**
 * A worker as a process of its own: until it is told to end, and then in good order. And what an orchestrator observes
 * as lines of a log, for whoever has nothing better to hand it to.
 */

import { readdir } from "node:fs/promises";
import { join, relative, resolve } from "node:path";
import process from "node:process";
import { fileURLToPath, pathToFileURL } from "node:url";
import { isHandler } from "../src/handler.ts";
import type { Handler, Observation, Orchestrator, WorkerOptions } from "../src/index.ts";

export interface RunWorkerOptions extends WorkerOptions {
  /** How long running handlers may take to finish after the first signal, in ms. @default 20_000 */
  readonly graceMs?: number;
  /** @default ["SIGTERM", "SIGINT"] */
  readonly signals?: readonly NodeJS.Signals[];
}

/**
 * Starts a worker and resolves when the orchestrator has stopped: after a signal, or because somebody stopped it.
 *
 * The first signal drains: nothing more is claimed, and running handlers have `graceMs` to finish. The second one
 * aborts them at once, and hands back what they ran. The third one is not caught, and ends the process.
 *
 * @example
 * ```ts
 * const database = postgresJs(process.env.DATABASE_URL);
 * const orchestrator = createOrchestrator({ database, handlers });
 * logObservations(orchestrator);
 * await runWorker(orchestrator, { concurrency: 50 });
 * await database.close();
 * ```
 */
export async function runWorker(orchestrator: Orchestrator, options: RunWorkerOptions = {}): Promise<void> {
  const { graceMs, signals = ["SIGTERM", "SIGINT"], ...workerOptions } = options;
  const worker = orchestrator.startWorker(workerOptions);
  let heard = 0;
  let stopping: Promise<void> | undefined;
  let stopped = (): void => {};
  const ended = new Promise<void>((resolve) => {
    stopped = resolve;
  });
  const stopObserving = orchestrator.observe((observation) => {
    if (observation.type === "worker_stopped" && observation.worker === worker.id) stopped();
  });
  const stop = (): void => {
    heard += 1;
    if (heard === 2) ignoreSignals();
    const stopOptions = heard === 2 ? { graceMs: 0 } : graceMs === undefined ? {} : { graceMs };
    const next = orchestrator.stop(stopOptions);
    // The same end, asked for twice: where it fails it is thrown below.
    next.catch(() => {}).finally(stopped);
    stopping ??= next;
  };
  const ignoreSignals = (): void => {
    for (const signal of signals) process.off(signal, stop);
  };
  for (const signal of signals) process.on(signal, stop);
  // What it meets while it starts is observed, and it goes on; that it was stopped before it had begun is no failure.
  worker.started.catch(() => {});
  try {
    await ended;
    await (stopping ?? orchestrator.stop());
  } finally {
    ignoreSignals();
    stopObserving();
  }
}

/** Modules that may hold handlers: no declarations, no tests. */
const moduleName = /(?<!\.d|\.test)\.m?[jt]s$/;

/**
 * The handlers that the modules of a folder export, those of its subfolders among them (but for `node_modules` and what
 * begins with a dot): every `.js`, `.mjs`, `.ts` and `.mts` that is neither `.d.ts` nor `.test.…` is imported, in the
 * order of their paths. A module without handlers is fine; a handler that is exported again elsewhere counts once.
 *
 * @param folder a path, or `new URL("./commands/", import.meta.url)`.
 * @throws TypeError where there is no handler at all, or two for one name and version; whatever a module throws.
 * @example
 * const orchestrator = createOrchestrator({
 *   database,
 *   handlers: await handlersFrom(new URL("./commands/", import.meta.url)),
 * });
 */
export async function handlersFrom(folder: URL | string): Promise<Handler[]> {
  const root = typeof folder === "string" ? resolve(folder) : fileURLToPath(folder);
  const found = new Map<string, { handler: Handler; file: string }>();
  for (const path of (await modulesOf(root)).toSorted()) {
    const file = relative(root, path);
    const module: Record<string, unknown> = await import(pathToFileURL(path).href);
    for (const handler of Object.values(module).filter(isHandler)) {
      const { name, version } = handler.contract;
      const key = `${JSON.stringify(name)} version ${version}`;
      const other = found.get(key);
      if (other === undefined) found.set(key, { handler, file });
      else if (other.handler !== handler) {
        throw new TypeError(`Cannot take handlers from "${root}": ${key} has two, in ${other.file} and ${file}`);
      }
    }
  }
  if (found.size === 0) throw new TypeError(`Cannot take handlers from "${root}": no module of it exports one`);
  return Array.from(found.values(), ({ handler }) => handler);
}

async function modulesOf(folder: string): Promise<string[]> {
  const found: string[] = [];
  for (const entry of await readdir(folder, { withFileTypes: true })) {
    if (entry.name.startsWith(".") || entry.name === "node_modules") continue;
    const path = join(folder, entry.name);
    if (entry.isDirectory()) found.push(...(await modulesOf(path)));
    else if (moduleName.test(entry.name)) found.push(path);
  }
  return found;
}

/** How grave an observation is; `log` ones carry their own. */
const levels = ["debug", "info", "warn", "error"] as const;

export type LogLevel = (typeof levels)[number];

export interface LogOptions {
  /** Receives each line, without its end. @default writes it to stderr */
  readonly write?: (line: string) => void;
  /** The least grave one that is logged. At `debug` each start and end of a command is a line. @default "info" */
  readonly level?: LogLevel;
}

/**
 * Logs what an orchestrator observes, one line each: the time, the level, the type, then `key=value`. Lines carry ids,
 * names, durations and the messages of errors, never inputs, outputs or metadata.
 *
 * @returns a function that ends it.
 */
export function logObservations(orchestrator: Pick<Orchestrator, "observe">, options: LogOptions = {}): () => void {
  const { write = (line) => void process.stderr.write(`${line}\n`), level = "info" } = options;
  const least = levels.indexOf(level);
  if (least < 0) {
    throw new TypeError(
      `Cannot log observations as level must be one of ${levels.join(", ")}: current value is ${level}`,
    );
  }
  return orchestrator.observe((observation) => {
    const own = levelOf(observation);
    if (levels.indexOf(own) < least) return;
    const { type, level: _, ...fields } = observation as Observation & { level?: unknown };
    const words = Object.entries(fields).flatMap(([key, value]) =>
      value === undefined ? [] : `${key}=${printed(value)}`,
    );
    write([new Date().toISOString(), own, type, ...words].join(" "));
  });
}

function levelOf(observation: Observation): LogLevel {
  switch (observation.type) {
    case "log":
      return observation.level;
    case "internal_error":
      return "error";
    case "command_started":
      return "debug";
    case "command_finished":
      if (observation.verdict === "retry") return "warn";
      if (observation.verdict === "cancelled") return "info";
      return ["failed", "timed_out", "not_found"].includes(observation.verdict) ? "error" : "debug";
    case "duty_finished":
      return observation.error === undefined ? "debug" : "warn";
    case "listening":
      return observation.proven ? "info" : "warn";
    case "worker_started":
    case "worker_stopped":
    case "leases_given_back":
      return "info";
    default:
      return "warn";
  }
}

const maxLength = 500;

/** One word: what would break the line, or the word, is quoted. */
function printed(value: unknown): string {
  const text = textOf(value);
  const short = text.length > maxLength ? `${text.slice(0, maxLength)}…` : text;
  return /^[^\s"=]+$/.test(short) ? short : JSON.stringify(short);
}

function textOf(value: unknown): string {
  if (typeof value === "string") return value;
  if (typeof value === "number") return String(Math.round(value * 1000) / 1000);
  if (Array.isArray(value)) return value.map((item) => (isNamed(item) ? item.id : textOf(item))).join(",");
  if (value instanceof Error || isRecordedError(value)) {
    const { code, message } = value as { code?: unknown; message: string };
    return typeof code === "string" ? `${code}: ${message}` : message;
  }
  return JSON.stringify(value) ?? String(value);
}

const isNamed = (value: unknown): value is { id: string } => typeof (value as { id?: unknown } | null)?.id === "string";

const isRecordedError = (value: unknown): boolean =>
  typeof (value as { message?: unknown } | null)?.message === "string";
