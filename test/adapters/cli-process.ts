/**
 * The command line as a process of its own, as `npx orchestratum` starts it. It is bundled once for each file that imports
 * this, since a bundle starts in a fraction of the time that tsx takes for its sources.
 */
import { type ChildProcessByStdio, spawn } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Readable, Writable } from "node:stream";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";
import { afterAll, afterEach, vi } from "vitest";

// A test may start more than twenty processes, one after the other.
vi.setConfig({ testTimeout: 300_000 });

export const checkout: string = fileURLToPath(new URL("../..", import.meta.url));

const sources = join(checkout, "adapters/cli/main.ts");

/** Within the checkout, where its packages and its package.json are found. */
const bundles = join(checkout, "node_modules/.cli-test");
mkdirSync(bundles, { recursive: true });
const bundle = mkdtempSync(`${bundles}/`);
afterAll(() => rmSync(bundle, { recursive: true, force: true }));

await build({
  entryPoints: [sources],
  outdir: bundle,
  outExtension: { ".js": ".mjs" },
  bundle: true,
  splitting: true,
  format: "esm",
  platform: "node",
  target: "node20",
  packages: "external",
  logLevel: "warning",
});

/** Where it is started. */
export const folder: string = mkdtempSync(join(tmpdir(), "orchestratum-cli-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** The words that start it. */
export const command: readonly string[] = [process.execPath, join(bundle, "main.mjs")];
/** The words that start a TypeScript file. */
export const typescript: readonly string[] = [process.execPath, "--import", import.meta.resolve("tsx")];
/** The words that start its sources, for who runs a module that imports those. */
export const commandOfSources: readonly string[] = [...typescript, sources];

/** What is set here may not say which database or server is meant, nor how anything is shown. */
const own = /^(?:DATABASE_URL|DEBUG|NO_COLOR|ORCHESTRATUM_.*)$/;

export const environment = (env: Record<string, string> = {}): NodeJS.ProcessEnv => ({
  ...Object.fromEntries(Object.entries(process.env).filter(([name]) => !own.test(name))),
  TSX_TSCONFIG_PATH: join(checkout, "tsconfig.json"),
  ...env,
});

export interface Ended {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

export interface Started {
  readonly child: ChildProcessByStdio<Writable, Readable, Readable>;
  /** What it has said so far. */
  readonly output: { stdout: string; stderr: string };
  readonly ended: Promise<Ended>;
}

export interface StartOptions {
  readonly env?: Record<string, string>;
  /** What stands on its standard input. @default nothing */
  readonly input?: string;
  /** @default folder */
  readonly cwd?: string;
  /** What is started. @default command */
  readonly words?: readonly string[];
}

const children = new Set<Started["child"]>();
afterEach(() => {
  for (const child of children) child.kill("SIGKILL");
});

export function start(args: readonly string[], options: StartOptions = {}): Started {
  const { env, input = "", cwd = folder, words = command } = options;
  const [program = "", ...rest] = [...words, ...args];
  const child = spawn(program, rest, { cwd, env: environment(env), stdio: ["pipe", "pipe", "pipe"] });
  children.add(child);
  const output = { stdout: "", stderr: "" };
  child.stdout.setEncoding("utf8").on("data", (text: string) => void (output.stdout += text));
  child.stderr.setEncoding("utf8").on("data", (text: string) => void (output.stderr += text));
  // A command that does not read its input may be gone before it was written.
  child.stdin.on("error", () => {});
  child.stdin.end(input);
  const ended = new Promise<Ended>((resolve, reject) => {
    child.on("error", reject);
    child.on("close", (code) => {
      children.delete(child);
      resolve({ code, ...output });
    });
  });
  return { child, output, ended };
}

export const run = (args: readonly string[], options?: StartOptions): Promise<Ended> => start(args, options).ended;
