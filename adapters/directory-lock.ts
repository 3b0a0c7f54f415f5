/**
 * Who has a PGlite directory open, kept in a file beside it: `data.lock` for `data`. PGlite itself opens a directory
 * twice without a word, and both instances then write over each other's pages.
 *
 * The file names a process by its id and, where the system tells, the time it started at: ids are used again, and in a
 * container the next process may well have the id of the one that was killed. A lock whose process is gone is taken
 * over.
 *
 * A second file, `data.new`, stands for as long as a new directory is being filled. A process that is killed meanwhile
 * leaves a directory that PGlite cannot open, and takes for one that is made: whoever comes next begins it anew.
 *
 * The lock holds among the processes of one machine: two containers with one volume do not see each other.
 */

import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  realpathSync,
  renameSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

/** The directory is open in another process, or in this one. */
export class DirectoryInUseError extends Error {
  readonly code = "ORCHESTRATUM_DIRECTORY_IN_USE";
  override readonly name = "DirectoryInUseError";
  readonly directory: string;

  constructor(directory: string, owner: string, lock: string) {
    super(
      `Cannot open PGlite directory "${directory}": ${owner} has it open; close it there, use a PostgreSQL server for several processes, or delete "${lock}" if that is wrong`,
    );
    this.directory = directory;
  }
}

/** What this process has open: where the start of a process is not known, its own id alone says nothing. */
const openHere = new Set<string>();

export interface DirectoryLock {
  /** The database in the directory is complete. */
  filled(): void;
  free(): void;
}

/** Locks a directory, which it makes where there is none, and empties where it was never filled. */
export function lockDirectory(directory: string): DirectoryLock {
  const path = directory.startsWith("file://") ? filePath(directory) : directory;
  mkdirSync(path, { recursive: true });
  const real = realpathSync(path);
  const lock = `${real}.lock`;
  const mine = `${process.pid} ${startOf(process.pid) ?? ""}`.trim();
  // Twice: what was in the way may be a lock that its process has left behind.
  for (let tries = 1; !create(lock, mine); tries += 1) {
    const theirs = readOrUndefined(lock);
    if (theirs === undefined) continue;
    if (tries > 2 || isHeld(theirs, real) || !takeAway(lock, theirs)) {
      const pid = Number.parseInt(theirs, 10);
      throw new DirectoryInUseError(directory, pid === process.pid ? "this process" : `process ${pid}`, lock);
    }
  }
  openHere.add(real);
  const unfilled = `${real}.new`;
  if (existsSync(unfilled)) {
    for (const name of readdirSync(real)) rmSync(join(real, name), { recursive: true });
  } else if (readdirSync(real).length === 0) {
    writeFileSync(unfilled, "");
  }
  return {
    filled: () => rmSync(unfilled, { force: true }),
    free: () => {
      if (openHere.delete(real) && readOrUndefined(lock) === mine) rmSync(lock, { force: true });
    },
  };
}

/** PGlite takes what follows `file://` as the path, relative or not. */
const filePath = (url: string): string =>
  url.startsWith("file:///") ? fileURLToPath(url) : url.slice("file://".length);

function create(lock: string, content: string): boolean {
  try {
    writeFileSync(lock, content, { flag: "wx" });
    return true;
  } catch (error) {
    if ((error as { code?: unknown }).code === "EEXIST") return false;
    throw error;
  }
}

function isHeld(content: string, directory: string): boolean {
  const [pid, start] = content.split(" ");
  const id = Number(pid);
  // Somebody has made the file and is about to write into it.
  if (!Number.isInteger(id) || id <= 0) return true;
  if (start !== undefined && startOf(id) !== undefined) return startOf(id) === start;
  return id === process.pid ? openHere.has(directory) : isAlive(id);
}

/** Of two processes that find the same old lock one may already have put its own there: that one is put back. */
function takeAway(lock: string, expected: string): boolean {
  const aside = `${lock}.${process.pid}`;
  try {
    renameSync(lock, aside);
  } catch {
    return true;
  }
  const moved = readOrUndefined(aside);
  if (moved !== expected) {
    renameSync(aside, lock);
    return false;
  }
  rmSync(aside, { force: true });
  return true;
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as { code?: unknown }).code !== "ESRCH";
  }
}

/** When a process started, in the system's own count; undefined where it is not known (no Linux, or no such process). */
function startOf(pid: number): string | undefined {
  // The name of the program, in parentheses, may contain anything; the fields are counted after it.
  return readOrUndefined(`/proc/${pid}/stat`)?.replace(/^.*\)/s, "").trim().split(" ")[19];
}

function readOrUndefined(path: string): string | undefined {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return undefined;
  }
}
