/** What an orchestrator observes as lines of a log, for whoever has nothing better to hand it to. */
import process from "node:process";
import type { LogLevel, Observation, Orchestrator } from "../src/index.ts";
import { createLevels, mayBe, tellable } from "../src/log.ts";

const levels: readonly LogLevel[] = ["debug", "info", "warn", "error"];

export interface LogOptions {
  /** Receives each line, without its end. @default writes it to stderr */
  readonly write?: (line: string) => void;
  /** The least grave one that is logged. At `debug` each start and end of a command is a line. @default "info" */
  readonly level?: LogLevel;
}

/**
 * Logs what an orchestrator observes, one line each: the time, the level, the type, then `key=value`. Lines carry ids,
 * names, durations and the messages of errors (but for those that quote what a schema refused), never inputs, outputs
 * or metadata. `logTo` makes records of the same, for programs.
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
  const levelOf = createLevels();
  const observer = (observation: Observation): void => {
    const own = levelOf(observation);
    if (levels.indexOf(own) < least) return;
    const { type, level: _, chain: __, ...fields } = observation as Observation & { level?: unknown; chain?: unknown };
    const words = Object.entries(fields).flatMap(([key, value]) =>
      value === undefined ? [] : `${key}=${printed(value)}`,
    );
    write([new Date().toISOString(), own, type, ...words].join(" "));
  };
  return orchestrator.observe(Object.assign(observer, { wants: mayBe(level) }));
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
    const { code, message } = tellable(value, true);
    return message === undefined ? code : hasCode(value) ? `${code}: ${message}` : message;
  }
  return JSON.stringify(value) ?? String(value);
}

const hasCode = (value: unknown): boolean => typeof (value as { code?: unknown }).code === "string";

const isNamed = (value: unknown): value is { id: string } => typeof (value as { id?: unknown } | null)?.id === "string";

const isRecordedError = (value: unknown): boolean =>
  typeof (value as { message?: unknown } | null)?.message === "string";
