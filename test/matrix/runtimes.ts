/** Programs as processes of their own, in each runtime that runs one. */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { join } from "node:path";
import process from "node:process";
import { createInterface } from "node:readline";
import { root } from "./miniflare.ts";

const bin = (name: string): string => join(root, "test/runtimes/node_modules/.bin", name);
const nodeBin = (version: string): string => join(root, "test/runtimes/node_modules", version, "bin/node");
const host = `node${process.versions.node.split(".")[0]}`;

/** Versions of Node.js beside the one that runs the tests: those that test/runtimes has installed, which `--ci` leaves out. */
export const otherNodes: readonly string[] = ["node20", "node22", "node24"].filter(
  (version) => version !== host && existsSync(nodeBin(version)),
);

/**
 * What runs a program of TypeScript, by the name of the runtime. Deno has no permission but those that are named, and may
 * ask for no more.
 */
export const runners: Readonly<Record<string, (permissions: readonly string[]) => readonly string[]>> = {
  node: () => [process.execPath, "--import", "tsx"],
  deno: (permissions) => [
    bin("deno"),
    "run",
    ...["--quiet", "--no-prompt", "--no-lock", "--config=examples/deno.json"],
    ...permissions,
  ],
  bun: () => [bin("bun")],
  ...Object.fromEntries(otherNodes.map((version) => [version, () => [nodeBin(version), "--import", "tsx"]])),
};

export const runtimes: readonly string[] = ["node", "deno", "bun"];

export interface ProgramOptions {
  readonly args?: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
  /** Deno's. @default none */
  readonly permissions?: readonly string[];
}

export interface Program extends AsyncDisposable {
  readonly child: ChildProcess;
  /** What it has printed, by lines. */
  readonly lines: readonly string[];
  /** What it has said on standard error. */
  readonly errors: string;
  /** Resolves with the first line that begins so, from now or before; rejects when the program ends without. */
  said(beginning: string): Promise<string>;
  /** Resolves with its exit code when it has ended; null where a signal ended it. */
  readonly ended: Promise<number | null>;
}

/** `file` is relative to the checkout. Whoever starts one disposes of it, which kills what still runs. */
export function startProgram(runtime: string, file: string, options: ProgramOptions = {}): Program {
  const { args = [], env = {}, permissions = [] } = options;
  const runner = runners[runtime];
  if (!runner) throw new TypeError(`Cannot start a program: there is no runtime "${runtime}"`);
  const [command, ...before] = runner(permissions);
  const child = spawn(command as string, [...before, file, ...args], {
    cwd: root,
    env: { ...process.env, NO_COLOR: "1", ...env },
    stdio: ["ignore", "pipe", "pipe"],
  });
  const lines: string[] = [];
  const waiting = new Set<() => void>();
  let errors = "";
  child.stderr.on("data", (data) => {
    errors += data;
  });
  createInterface({ input: child.stdout }).on("line", (line) => {
    lines.push(line);
    for (const look of waiting) look();
  });
  const ended = once(child, "close").then(([code]) => code as number | null);
  return {
    child,
    lines,
    get errors() {
      return errors;
    },
    ended,
    async said(beginning) {
      const find = () => lines.find((line) => line.startsWith(beginning));
      const heard = new Promise<void>((resolve) => {
        const look = () => {
          if (find() === undefined) return;
          waiting.delete(look);
          resolve();
        };
        waiting.add(look);
        look();
      });
      await Promise.race([heard, ended]);
      const line = find();
      if (line === undefined) {
        throw new Error(`${runtime} ended without saying "${beginning}": ${lines.join("\n")}\n${errors}`);
      }
      return line;
    },
    async [Symbol.asyncDispose]() {
      if (child.exitCode === null && child.signalCode === null) child.kill("SIGKILL");
      await ended;
    },
  };
}
