/**
 * Brings a database to the state that this code expects.
 *
 * What is missing is applied by one script in one transaction: the lock, the numbered migrations, then the functions,
 * dropped and created again as a whole when their text has changed. What is missing is read before, outside of it, so
 * no session state is needed. A process that is overtaken between the two finds its script refused (each migration
 * inserts its own row, and the functions are compared with what was read), and reads again.
 *
 * A newer release may have been here: its migrations, and its functions, are left alone. Releases are compared by their
 * number, since a hash cannot tell older from newer.
 */

import type { Driver, Queryable } from "./driver.ts";
import { type Keys, requireFunction, requireKeys } from "./limits.ts";
import { checkSchemaName, schemaSql } from "./schema-name.ts";
import {
  afterFunctions,
  beforeFunctions,
  beforeMigrations,
  functions,
  functionsHash,
  migrations,
  queries,
  release,
} from "./sql.generated.ts";

export interface MigrateOptions {
  /** @default "orchestratum" */
  schema?: string;
  /** Called once for each migration, after all of them have committed. */
  onApplied?: (name: string) => void;
}

const migrateKeys: Keys<MigrateOptions> = { schema: true, onApplied: true };
const schemaKeys: Keys<NonNullable<Parameters<typeof migrateDown | typeof migrationState>[1]>> = { schema: true };
const scriptKeys: Keys<NonNullable<Parameters<typeof migrationScript>[0]>> = { ...schemaKeys, from: true };

export interface MigrateResult {
  /** What was applied now, oldest first: `0001_create_commands`. */
  applied: string[];
  /** Whether the functions were created anew. */
  functionsReplaced: boolean;
  /** A newer release has migrated this database; nothing was changed. */
  newer: boolean;
}

export interface MigrationState {
  /** Oldest first: `0001_create_commands`. */
  applied: readonly string[];
  /** What `migrate()` would apply. */
  pending: readonly string[];
  /** What has been applied and is unknown to this code. */
  unknown: readonly string[];
  /** Of `newer` functions this code knows only that a newer release created them. */
  functions: "missing" | "outdated" | "current" | "newer";
}

interface Found {
  versions: ReadonlyMap<number, string>;
  /** Release and hash; null: none, undefined: nobody has looked. */
  functionsHash: string | null | undefined;
}

/** Each try follows a change that somebody else made, so a second one is already rare. */
const maxTries = 10;

const ours = `${release} ${functionsHash}`;

/**
 * Applies what is missing, once and in order, however many processes start at the same time.
 *
 * @throws {TypeError} a schema name that is none, or an option. What the database refuses is thrown as the driver reports it.
 */
export async function migrate(driver: Driver, options: MigrateOptions = {}): Promise<MigrateResult> {
  requireKeys("Cannot migrate", options, migrateKeys);
  const { schema = "orchestratum", onApplied } = options;
  if (onApplied !== undefined) requireFunction("Cannot migrate", "onApplied", onApplied);
  checkSchemaName(schema);
  let found = await read(driver, schema);
  for (let tries = 1; ; tries += 1) {
    const state = compare(found);
    const newer = state.unknown.length > 0 || state.functions === "newer";
    if (newer || (state.pending.length === 0 && state.functions === "current")) {
      return { applied: [], functionsReplaced: false, newer };
    }
    try {
      await driver.script(upScript(found, schema));
    } catch (error) {
      const now = await read(driver, schema);
      if (tries === maxTries || same(found, now)) throw error;
      found = now;
      continue;
    }
    for (const name of state.pending) onApplied?.(name);
    return { applied: [...state.pending], functionsReplaced: state.functions !== "current", newer: false };
  }
}

/**
 * Undoes the newest migration: for development, since what it had added is lost. Undoing the first one drops the schema.
 *
 * @returns the name of what was undone, or undefined where nothing had been applied.
 * @throws {Error} where the newest migration is unknown to this code.
 */
export async function migrateDown(driver: Driver, options: { schema?: string } = {}): Promise<string | undefined> {
  requireKeys("Cannot undo migration", options, schemaKeys);
  const { schema = "orchestratum" } = options;
  checkSchemaName(schema);
  const found = await read(driver, schema);
  const { applied, unknown } = compare(found);
  if (unknown.length > 0) {
    throw new Error(
      `Cannot undo migration "${unknown.at(-1)}": release ${release} does not know it; use the release that applied it`,
    );
  }
  const newest = migrations.findLast(({ version }) => found.versions.has(version));
  if (newest === undefined) return undefined;
  const parts = [
    beforeMigrations,
    withHash(beforeFunctions, "functions_hash_before", found.functionsHash),
    newest.down,
  ];
  if (newest.version > 1) {
    // They may be written for what was just undone: without a hash the next migrate() creates them again.
    parts.push(...functions.map(({ text }) => text), withHash(afterFunctions, "functions_hash_after", null));
  }
  await driver.script(schemaSql(parts.join("\n"), schema));
  return applied.at(-1);
}

/** What has been applied, and what `migrate()` would do. */
export async function migrationState(queryable: Queryable, options: { schema?: string } = {}): Promise<MigrationState> {
  requireKeys("Cannot read migrations", options, schemaKeys);
  const { schema = "orchestratum" } = options;
  checkSchemaName(schema);
  return compare(await read(queryable, schema));
}

/**
 * The text that `migrate()` would apply to a database that is at migration `from`, for psql: with begin and commit.
 *
 * @throws {RangeError} where `from` is no migration that this code knows (0 is the empty database).
 */
export function migrationScript(options: { schema?: string; from?: number } = {}): string {
  requireKeys("Cannot print migrations", options, scriptKeys);
  const { schema = "orchestratum", from = 0 } = options;
  checkSchemaName(schema);
  if (!Number.isInteger(from) || from < 0 || from > migrations.length) {
    throw new RangeError(`Cannot print migrations as from must be 0 to ${migrations.length}: current value is ${from}`);
  }
  const done = migrations.filter(({ version }) => version <= from);
  const versions = new Map(done.map(({ version, name }) => [version, name]));
  return `begin;\n\n${upScript({ versions, functionsHash: undefined }, schema)}\ncommit;\n`;
}

function upScript(found: Found, schema: string): string {
  const missing = migrations.filter(({ version }) => !found.versions.has(version));
  const parts = [beforeMigrations, ...missing.map(({ up }) => up)];
  if (compareFunctions(found.functionsHash) !== "current") {
    parts.push(
      withHash(beforeFunctions, "functions_hash_before", found.functionsHash),
      ...functions.map(({ text }) => text),
      withHash(afterFunctions, "functions_hash_after", ours),
    );
  }
  return schemaSql(parts.join("\n"), schema);
}

/** Fills in a hash where psql would read a variable. Undefined is "whatever is there": it is compared with itself. */
function withHash(text: string, variable: string, hash: string | null | undefined): string {
  const value =
    hash === undefined ? "(select s.functions_hash from orchestratum.setting s)" : hash === null ? "null" : `'${hash}'`;
  return text.replaceAll(`:'${variable}'`, value);
}

async function read(queryable: Queryable, schema: string): Promise<Found> {
  try {
    const rows = await queryable.query<{ migrations: string | null; functions_hash: string | null }>(
      schemaSql(queries.migrationState, schema),
      [],
    );
    const applied = JSON.parse(rows[0]?.migrations ?? "[]") as { version: number; name: string }[];
    return {
      versions: new Map(applied.map(({ version, name }) => [version, name])),
      functionsHash: checkHash(rows[0]?.functions_hash ?? null),
    };
  } catch (error) {
    if (isUndefinedTable(error)) return { versions: new Map(), functionsHash: null };
    throw error;
  }
}

/** It is built into the next script, and anybody who may write into table setting could have written anything there. */
function checkHash(hash: string | null): string | null {
  if (hash === null || /^[0-9a-z.+-]{1,64} [0-9a-f]{64}$/i.test(hash)) return hash;
  throw new Error(`Cannot migrate: setting.functions_hash is ${JSON.stringify(hash)}; set it to null to go on`);
}

function isUndefinedTable(error: unknown): boolean {
  const { code, errno } = error as { code?: unknown; errno?: unknown };
  return code === "42P01" || errno === "42P01";
}

function compare(found: Found): MigrationState {
  const known = new Set(migrations.map(({ version }) => version));
  return {
    applied: [...found.versions].map(([version, name]) => fileName(version, name)),
    pending: migrations
      .filter(({ version }) => !found.versions.has(version))
      .map(({ version, name }) => fileName(version, name)),
    unknown: [...found.versions]
      .filter(([version]) => !known.has(version))
      .map(([version, name]) => fileName(version, name)),
    functions: compareFunctions(found.functionsHash),
  };
}

function compareFunctions(theirs: string | null | undefined): MigrationState["functions"] {
  if (theirs === null || theirs === undefined) return "missing";
  if (theirs.endsWith(functionsHash)) return "current";
  const [a, b] = [numbers(theirs), numbers(release)];
  const at = a.findIndex((part, index) => part !== b[index]);
  return at >= 0 && (a[at] as number) > (b[at] as number) ? "newer" : "outdated";
}

/** Major, minor and patch. Between two pre-releases of one number the one that comes last wins. */
const numbers = (text: string): number[] => (/^(\d+)\.(\d+)\.(\d+)/.exec(text) ?? [0, 0, 0, 0]).slice(1).map(Number);

const fileName = (version: number, name: string): string => `${String(version).padStart(4, "0")}_${name}`;

const same = (a: Found, b: Found): boolean =>
  a.functionsHash === b.functionsHash && [...a.versions.keys()].join() === [...b.versions.keys()].join();
