/** The handlers of a folder, for runtimes that have one: Node, Deno and Bun. */
import { readdir } from "node:fs/promises";
import { join, relative, resolve } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { isHandler } from "../src/handler.ts";
import type { Handler } from "../src/index.ts";

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
