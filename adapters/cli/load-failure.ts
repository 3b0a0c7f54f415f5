/**
 * Why a module could not be loaded, and where: an error of a module names neither the module nor, where it does not parse,
 * the line.
 */

import { existsSync, statSync } from "node:fs";
import { dirname, relative, resolve, sep } from "node:path";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { MisuseError } from "./misuse.ts";
import { reasonOf } from "./reason.ts";

/**
 * The failure to show in the place of one that importing `path` threw.
 *
 * @param path of a module or a folder, as it was given.
 */
export function loadFailure(path: string, error: unknown): Error {
  const target = resolve(process.cwd(), path);
  const { code } = (error ?? {}) as { code?: unknown };
  const reason = reasonOf(error);
  const cannot = `Cannot load ${JSON.stringify(path)}: `;
  // Where one of its imports is missing, the message names the module, too.
  if (code === "ERR_MODULE_NOT_FOUND" && !existsSync(target) && reason.includes(target)) {
    return new MisuseError(`${cannot}there is no such file`);
  }
  const typescript = /^Unknown file extension "\.[mc]?ts"(?: for (.*))?/.exec(reason);
  if (typescript !== null) {
    const [, file = target] = typescript;
    const which = file === target ? "" : ` (${shown(file)})`;
    return new Error(
      `${cannot}this Node does not run TypeScript${which}; use Node 22.18 or newer, or node --import tsx`,
      { cause: error },
    );
  }
  const place = placeOf(error, target);
  return new Error(`${cannot}${reason}${place === undefined ? "" : ` (${place})`}`, { cause: error });
}

interface Place {
  readonly file: string;
  readonly line: string;
}

/** `handlers.mjs:7`. */
function placeOf(error: unknown, target: string): string | undefined {
  if (!(error instanceof Error)) return undefined;
  const places = placesOf(error.stack ?? "");
  const folder = isFolder(target) ? target : dirname(target);
  const foreign = /[\\/]node_modules[\\/]/;
  const own = fileURLToPath(new URL("../../", import.meta.url));
  const place =
    places.find(({ file }) => file.startsWith(folder + sep) && !foreign.test(file.slice(folder.length))) ??
    places.find(({ file }) => !file.startsWith(own) && !foreign.test(file));
  if (place !== undefined) return `${shown(place.file)}:${place.line}`;
  // Node keeps the place of what does not parse to itself, unless it is asked to check a file.
  return error instanceof SyntaxError ? "node --check says where" : undefined;
}

/** The files of a stack: of its frames, and of the line that V8 puts before a SyntaxError that it has a place of. */
function placesOf(stack: string): Place[] {
  return stack.split("\n").flatMap((line, index) => {
    if (index > 0 && !/^\s+at /.test(line)) return [];
    const [, name, number] = /(?:^|[\s(])((?:file:\/\/|\/|[A-Za-z]:\\)[^()]*?):(\d+)(?::\d+)?\)?$/.exec(line) ?? [];
    if (name === undefined || number === undefined) return [];
    return [{ file: name.startsWith("file:") ? fileURLToPath(name) : name, line: number }];
  });
}

export const isFolder = (path: string): boolean => statSync(path, { throwIfNoEntry: false })?.isDirectory() === true;

/** From here, where it is below. */
function shown(file: string): string {
  const path = relative(process.cwd(), file);
  return path.startsWith("..") ? file : path;
}
