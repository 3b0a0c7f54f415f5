/** Reading what was typed: options by `util.parseArgs`, and texts as numbers, times, JSON and ids. */

import { type ParseArgsConfig, parseArgs } from "node:util";
import { requireTime } from "../../src/limits.ts";
import { isUuid } from "../../src/uuid.ts";
import { MisuseError } from "./misuse.ts";
import { didYouMean } from "./nearest.ts";

export type Options = NonNullable<ParseArgsConfig["options"]>;
type Parsed<O extends Options> = ReturnType<
  typeof parseArgs<{ args: string[]; options: O; allowPositionals: true; strict: true }>
>;

/** The options of every command that has a database. */
export const databaseOptions = {
  database: { type: "string" },
  schema: { type: "string" },
} as const;

/** What the help says of them. */
export const databaseUsage = `  --database        postgres://…, or a directory for the embedded database [DATABASE_URL]
  --schema          the name of the schema [orchestratum]`;

/** The options of every command that asks an orchestrator: one on a database, or one behind a router. */
export const connectionOptions = {
  database: { type: "string" },
  schema: { type: "string" },
  url: { type: "string" },
  token: { type: "string" },
} as const;

/** What the help says of them. */
export const connectionUsage: string = `${databaseUsage}
  --url             https://…, where a router is mounted: asks over HTTP, with no database [ORCHESTRATUM_URL]
  --token           who asks over HTTP; others see it in the list of processes, a variable they do not
                    [ORCHESTRATUM_TOKEN]`;

export const helpUsage = "  --help            prints this";

/** @throws MisuseError for an option that there is not, with the nearest one that there is. */
export function parseOptions<const O extends Options>(attempt: string, args: string[], options: O): Parsed<O> {
  try {
    const joined = joinNegatives(args, options);
    return parseArgs({ args: joined, options, allowPositionals: true, strict: true }) as Parsed<O>;
  } catch (error) {
    const { code, message } = error as { code?: unknown; message: string };
    if (!String(code).startsWith("ERR_PARSE_ARGS_")) throw error;
    if (code !== "ERR_PARSE_ARGS_UNKNOWN_OPTION") throw new MisuseError(`${attempt}: ${message.split("\n")[0]}`);
    const [, unknown = ""] = /'(-[^' ]*)/.exec(message) ?? [];
    const known = Object.keys(options);
    if (/^--(?:url|token)$/.test(unknown)) {
      const way = known.includes("database") ? ": it needs a database, pass --database" : "";
      throw new MisuseError(`${attempt}: there is no option "${unknown}", since this is not done over HTTP${way}`);
    }
    const hint = didYouMean(unknown.replace(/^-+/, ""), known, "--");
    throw new MisuseError(`${attempt}: there is no option "${unknown}"${hint}`);
  }
}

/**
 * `--delay-ms -5` as `--delay-ms=-5`: what begins with a dash is no value to Node, which would not say what the option takes.
 */
function joinNegatives(args: readonly string[], options: Options): string[] {
  const joined: string[] = [];
  for (const [index, word] of args.entries()) {
    const before = joined.at(-1);
    if (before === "--") return [...joined, ...args.slice(index)];
    const takes = before?.startsWith("--") && options[before.slice(2)]?.type === "string";
    if (takes && /^-\d/.test(word)) joined[joined.length - 1] = `${before}=${word}`;
    else joined.push(word);
  }
  return joined;
}

/** Runs a check of the library's: what it refuses was typed by somebody. */
export function checked<T>(check: () => T): T {
  try {
    return check();
  } catch (error) {
    throw error instanceof TypeError || error instanceof RangeError ? new MisuseError(error.message) : error;
  }
}

/** As {@link checked}, for what the library checks itself before it asks the database anything. */
export async function refusable<T>(asking: Promise<T>): Promise<T> {
  try {
    return await asking;
  } catch (error) {
    throw error instanceof RangeError ? new MisuseError(error.message) : error;
  }
}

export function readInteger(
  attempt: string,
  option: string,
  text: string | undefined,
  min: number,
  max: number,
): number | undefined {
  if (text === undefined) return undefined;
  const value = Number(text);
  if (/^\d+$/.test(text) && value >= min && value <= max) return value;
  throw new MisuseError(`${attempt}: ${option} must be an integer from ${min} to ${max}, got ${JSON.stringify(text)}`);
}

const unitsMs = { ms: 1, s: 1_000, m: 60_000, h: 3_600_000, d: 86_400_000, w: 604_800_000 } as const;

const iso = /^\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d(?::\d\d(?:\.\d+)?)?(Z|[+-]\d\d:?\d\d)?)?$/i;

/**
 * A time: ISO 8601, in UTC where it names no zone, or a distance from now such as `90s`, `15m`, `1h`, `2d`, `1w`.
 *
 * @param direction whether a distance lies behind us or before us.
 */
export function readTime(
  attempt: string,
  option: string,
  text: string | undefined,
  direction: "ago" | "ahead" = "ago",
): Date | undefined {
  if (text === undefined) return undefined;
  const [, amount, unit] = /^(\d+(?:\.\d+)?)(ms|s|m|h|d|w)$/.exec(text) ?? [];
  let time = Number.NaN;
  if (amount !== undefined) {
    const distance = Number(amount) * unitsMs[unit as keyof typeof unitsMs];
    time = Date.now() + (direction === "ago" ? -distance : distance);
  } else {
    const match = iso.exec(text);
    if (match) time = Date.parse(text.length === 10 || match[1] ? text : `${text.replace(" ", "T")}Z`);
  }
  if (Number.isNaN(time)) {
    throw new MisuseError(
      `${attempt}: ${option} must be a time (2026-10-01, 2026-10-01T12:00Z) or a distance from now (90s, 15m, 1h, 2d, 1w), got ${JSON.stringify(text)}`,
    );
  }
  const date = new Date(time);
  checked(() => requireTime(attempt, option, date));
  return date;
}

/** JSON that JavaScript reads as it is written. `where` names it: `input`, `line 7 of --file`. */
export function readJson(attempt: string, where: string, text: string): unknown {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    // Its message may show some of the text, and the text may be anything.
    const [place = ""] = /(?:at|after) position \d+|line \d+ column \d+/.exec((error as Error).message) ?? [];
    const way = where === "input" ? `; a text needs its quotes, as in '"text"'` : "";
    throw new MisuseError(`${attempt}: ${where} must be JSON${place === "" ? "" : `, it is not ${place}`}${way}`);
  }
  const changed = changedNumber(text);
  if (changed !== undefined) {
    throw new MisuseError(`${attempt}: ${where} has the number ${changed}, which would be rounded: make it a text`);
  }
  return value;
}

/** An integer with more digits than a JavaScript number keeps. */
function changedNumber(text: string): string | undefined {
  for (const [token] of text.matchAll(/"(?:[^"\\]|\\.)*"|-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?/g)) {
    if (!/^-?\d{16,}$/.test(token)) continue;
    if (BigInt(token) !== BigInt(Number(token))) return token;
  }
  return undefined;
}

/** Ids as they were typed, in lower case. */
export function readIds(attempt: string, texts: readonly string[]): string[] {
  return texts.map((text) => {
    if (!isUuid(text)) throw new MisuseError(`${attempt}: an id must be a UUID, got ${JSON.stringify(text)}`);
    return text.toLowerCase();
  });
}

/** The one id that some commands take. */
export function readId(attempt: string, texts: readonly string[]): string {
  const [id, ...more] = readIds(attempt, texts);
  if (id === undefined || more.length > 0) throw new MisuseError(`${attempt}: one id is wanted, got ${texts.length}`);
  return id;
}

export function refusePositionals(attempt: string, texts: readonly string[]): void {
  if (texts.length === 0) return;
  throw new MisuseError(`${attempt}: it takes options only, got ${JSON.stringify(texts[0])}`);
}
