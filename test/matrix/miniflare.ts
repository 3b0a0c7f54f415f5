/** Modules bundled as an edge platform's tools bundle them, and run in workerd. */
import { builtinModules, createRequire } from "node:module";
import { join, resolve } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { build } from "esbuild";

export const root = fileURLToPath(new URL("../..", import.meta.url));
const runtimes = createRequire(join(root, "test/runtimes/package.json"));

/** What is used of Miniflare. */
export interface Workerd extends AsyncDisposable {
  dispatchFetch(url: string, init?: RequestInit): Promise<Response>;
  getWorker(): Promise<{ scheduled(options: { cron: string }): Promise<{ outcome: string }> }>;
  readonly ready: Promise<URL>;
  dispose(): Promise<void>;
}

/** Bundles a module for workerd; answers its text. */
export async function bundle(file: string): Promise<string> {
  const { outputFiles } = await build({
    entryPoints: [resolve(root, file)],
    bundle: true,
    write: false,
    format: "esm",
    platform: "neutral",
    target: "es2022",
    mainFields: ["module", "main"],
    conditions: ["workerd", "worker", "import"],
    external: ["node:*", "cloudflare:*"],
    // With nodejs_compat modules of Node are there, also where a package names them without the prefix.
    alias: Object.fromEntries(
      builtinModules.filter((name) => !/^_|[:/]/.test(name)).map((name) => [name, `node:${name}`]),
    ),
    // tsconfig.json says what the names of the package's entry points stand for.
    tsconfig: join(root, "tsconfig.json"),
  });
  return (outputFiles[0] as { text: string }).text;
}

/** Starts it, and resolves when it answers; `options` are those of Miniflare. */
export async function startWorkerd(file: string, options: Record<string, unknown> = {}): Promise<Workerd> {
  const { Miniflare } = (await import(pathToFileURL(runtimes.resolve("miniflare")).href)) as {
    Miniflare: new (options: object) => Workerd;
  };
  const workerd = new Miniflare({
    modules: [{ type: "ESModule", path: "worker.mjs", contents: await bundle(file) }],
    compatibilityDate: "2026-04-01",
    compatibilityFlags: ["nodejs_compat"],
    host: "127.0.0.1",
    port: 0,
    ...options,
  });
  workerd[Symbol.asyncDispose] = () => workerd.dispose();
  try {
    await workerd.ready;
  } catch (error) {
    await workerd.dispose();
    throw error;
  }
  return workerd;
}
