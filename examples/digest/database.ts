/** Where a run is recorded: on the server that DATABASE_URL names, or in an embedded database for each folder. */
import { createHash } from "node:crypto";
import { existsSync, readdirSync, rmSync } from "node:fs";
import { homedir, tmpdir } from "node:os";
import { basename, join, resolve } from "node:path";
import type { Driver } from "orchestratum";
import { UsageError } from "./options.ts";

export interface OpenDatabase extends Driver {
  close(): Promise<void>;
}

export interface Location {
  /** What to call it when speaking of it. */
  readonly description: string;
  /** Paths that it writes to, if they are on this machine. */
  readonly paths: readonly string[];
  open(): Promise<OpenDatabase>;
}

class BrokenDatabaseError extends UsageError {}

/** Everything that lies in a database directory, also in one that was killed half-made. */
const ofDatabase =
  /^(base|global|pg_\w+(\.conf)?|PG_VERSION|postgresql(\.auto)?\.conf|postmaster\.(opts|pid)|\.s\.PGSQL.*)$/;

export function server(url: string): Location {
  const description = `the server at ${withoutPassword(url)} (DATABASE_URL)`;
  return {
    description,
    paths: [],
    async open() {
      // Only the one that is used is loaded: the other need not be installed.
      const { postgresJs } = await import("orchestratum/postgres-js");
      try {
        const database = postgresJs(url, { max: 8, connect_timeout: 10, connection: { application_name: "digest" } });
        await database.query("select 1 as one", []).catch(async (error) => {
          await database.close({ timeoutMs: 0 });
          throw error;
        });
        return database;
      } catch (error) {
        const { message, code } = error as { message?: string; code?: string };
        throw new UsageError(`Cannot use ${description}: ${message || code}`, { cause: error });
      }
    },
  };
}

export function embedded(
  folder: string,
  { directory, clean }: { directory: string | undefined; clean: boolean },
): Location {
  const path = resolve(directory ?? defaultDirectory(folder));
  const open = async (): Promise<OpenDatabase> => {
    const { pglite } = await import("orchestratum/pglite");
    if (existsSync(path) && !readdirSync(path).every((name) => ofDatabase.test(name))) {
      throw new UsageError(`Cannot use "${path}" as a database directory: there is something else in it`);
    }
    try {
      return await pglite(path);
    } catch (error) {
      if ((error as { code?: unknown }).code === "ORCHESTRATUM_DIRECTORY_IN_USE") {
        throw new UsageError((error as Error).message, { cause: error });
      }
      throw new BrokenDatabaseError(
        `Cannot open the database in "${path}": ${(error as Error).message}; begin anew with --clean, or choose another directory by --database`,
        { cause: error },
      );
    }
  };
  return {
    description: path,
    paths: [path, `${path}.lock`, `${path}.new`],
    async open() {
      if (!clean) return await open();
      // What is deleted is a database that nobody has open: that it is one, and is free, is found by opening it. One that
      // cannot be opened for another reason, as when the process that made it was killed half-way, is to go all the same.
      await open().then(
        (database) => database.close(),
        (error: UsageError) => {
          if (!(error instanceof BrokenDatabaseError)) throw error;
        },
      );
      rmSync(path, { recursive: true, force: true });
      return await open();
    },
  };
}

function defaultDirectory(folder: string): string {
  const name = basename(folder).replace(/[^\w.-]+/g, "_") || "root";
  return join(
    tmpdir(),
    "orchestratum-digest",
    `${name}-${createHash("sha256").update(folder).digest("hex").slice(0, 8)}`,
  );
}

function withoutPassword(url: string): string {
  try {
    const { protocol, username, host, pathname } = new URL(url);
    if (!["postgres:", "postgresql:"].includes(protocol)) throw new TypeError(`Not of PostgreSQL: ${protocol}`);
    return `${protocol}//${username === "" ? "" : `${username}@`}${host}${pathname}`;
  } catch {
    throw new UsageError(
      "Cannot use DATABASE_URL: it is no URL of PostgreSQL; one looks like postgres://user:password@host:5432/name",
    );
  }
}

/** With a tilde that the shell left alone, as in --database=~/data. */
export const expandHome = (path: string): string =>
  /^~(?=$|[/\\])/.test(path) ? join(homedir(), path.slice(1)) : path;
