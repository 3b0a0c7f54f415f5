/**
 * Who has a PGlite directory open, kept in a file beside it: `data.lock` for `data`. PGlite itself opens a directory
 * twice without a word, and both instances then write over each other's pages.
 *
 * The file names a process by its id and, where the system tells, the time it started at: ids are used again, and in a
 * container the next process may well have the id of the one that was killed. A lock whose process is gone is taken
 * over. Deno only looks at other processes with `--allow-run`: there the file is locked, too, which the kernel ends with
 * the process.
 *
 * A second file, `data.new`, stands for as long as a new directory is being filled. A process that is killed meanwhile
 * leaves a directory that PGlite cannot open, and takes for one that is made: whoever comes next begins it anew.
 *
 * The lock holds among the processes of one machine: two containers with one volume do not see each other.
 */

import {
  appendFileSync,
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

  constructor(directory: string, held: string, lock: string) {
    super(
      `Cannot open PGlite directory "${directory}": ${held}; close it there, use a PostgreSQL server for several processes, or delete "${lock}" if that is wrong`,
    );
    this.directory = directory;
  }
}

/** What this process has open: where the start of a process is not known, its own id alone says nothing. */
const openHere = new Set<string>();

/** In the place of when a process started. */
const unknown = "?";

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
  const named = `${process.pid} ${startOf(process.pid) ?? unknown}`;
  // Twice: what was in the way may be a lock that its process has left behind.
  for (let tries = 1; !create(lock, named); tries += 1) {
    const theirs = readOrUndefined(lock);
    if (theirs === undefined) continue;
    const held = isHeld(theirs, lock, real);
    if (tries > 2 || held !== false || !takeAway(lock, theirs)) {
      const pid = Number.parseInt(theirs, 10);
      const owner = `${pid === process.pid ? "this process" : `process ${pid}`} has it open`;
      const unsure = `${owner}, or was killed, which Deno only sees with --allow-run`;
      throw new DirectoryInUseError(directory, held === undefined ? unsure : owner, lock);
    }
  }
  const file = lockFile(lock);
  const mine = file === undefined ? named : `${named} locked`;
  // Not written anew: whoever reads it meanwhile would find nothing.
  if (file !== undefined) appendFileSync(lock, " locked");
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
      if (!openHere.delete(real)) return;
      if (readOrUndefined(lock) === mine) rmSync(lock, { force: true });
      file?.close();
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

/** Undefined where it cannot be known. */
function isHeld(content: string, lock: string, directory: string): boolean | undefined {
  const [pid, start = unknown, locked] = content.split(" ");
  const id = Number(pid);
  // Somebody has made the file and is about to write into it.
  if (!Number.isInteger(id) || id <= 0) return true;
  if (start !== unknown && startOf(id) !== undefined) return startOf(id) === start;
  if (id === process.pid) return openHere.has(directory);
  const alive = isAlive(id);
  if (alive !== undefined || locked === undefined) return alive;
  const file = lockFile(lock);
  file?.close();
  return file === undefined;
}

/** A file of Deno's. The kernel lets one process lock it at a time, and unlocks it when that ends, however it does. */
interface LockableFile {
  tryLockSync(exclusive: boolean): boolean;
  close(): void;
}

/** Undefined where another process has locked it, and where nobody can: elsewhere than in Deno. */
function lockFile(path: string): LockableFile | undefined {
  const { Deno } = globalThis as { Deno?: { openSync(path: string, options: object): LockableFile } };
  // On Windows nobody could read a file that is locked.
  if (Deno === undefined || process.platform === "win32") return undefined;
  let file: LockableFile | undefined;
  try {
    file = Deno.openSync(path, { write: true });
    if (file.tryLockSync(true)) return file;
  } catch {
    // Neither every version of Deno nor every file system knows it.
  }
  file?.close();
  return undefined;
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

/** Undefined where this process may not look. */
function isAlive(pid: number): boolean | undefined {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    const { code } = error as { code?: unknown };
    return code === "ESRCH" ? false : code === "EPERM" ? true : undefined;
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
