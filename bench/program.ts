/**
 * The contestants are processes of their own, all on the Node of peers/, each with a time limit. A program prints
 * `ready` when it is (if anybody waits for that), and its result as a line of JSON at its end.
 */
import { type ChildProcess, spawn } from "node:child_process";
import process from "node:process";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";

export interface Program {
  /** Rejects where the program ends before it is. */
  readonly ready: Promise<void>;
  /** Asks the program for its result, and waits for it. */
  ask(): Promise<unknown>;
  /** Waits for the result of a program that ends by itself. */
  readonly result: Promise<unknown>;
}

const here = (path: string) => fileURLToPath(new URL(path, import.meta.url));
/** Not the script in .bin: that one may be a wrapper, and a signal would end the wrapper alone. */
export const node = here(`peers/node_modules/node/bin/node${process.platform === "win32" ? ".exe" : ""}`);

const running = new Set<ChildProcess>();

/** `path` is relative to this folder; `command` is what runs it. */
export function startProgram(
  path: string,
  args: readonly string[],
  limitMs: number,
  [command = node, ...before]: readonly string[] = [node],
): Program {
  // For a profile: BENCH_NODE_OPTIONS="--cpu-prof --cpu-prof-dir=/tmp/profiles".
  const extra = (process.env.BENCH_NODE_OPTIONS ?? "").split(" ").filter(Boolean);
  const child = spawn(command, [...before, ...(command === node ? extra : []), here(path), ...args], {
    stdio: ["pipe", "pipe", "inherit"],
  });
  running.add(child);
  // Its end is reported below, and what is written to it means only "end".
  child.stdin.on("error", () => {});

  let last = "";
  let becomeReady = (): void => {};
  let limited = false;
  const result = new Promise<unknown>((resolve, reject) => {
    const timer = setTimeout(() => {
      limited = true;
      child.kill("SIGKILL");
    }, limitMs);
    createInterface({ input: child.stdout }).on("line", (line) => {
      if (line === "ready") becomeReady();
      else last = line;
    });
    child.on("error", reject);
    child.on("close", (code, signal) => {
      clearTimeout(timer);
      running.delete(child);
      if (limited) reject(new Error(`Cannot measure ${path}: it did not end within ${limitMs / 1000} s`));
      else if (code !== 0) reject(new Error(`Cannot measure ${path}: it ended with ${code ?? signal}, see above`));
      else resolve(JSON.parse(last));
    });
  });
  const ready = new Promise<void>((resolve, reject) => {
    becomeReady = resolve;
    result.then(() => reject(new Error(`Cannot measure ${path}: it ended before it was ready`)), reject);
  });
  // Whoever waits is told; the other promise must not count as unhandled.
  ready.catch(() => {});
  result.catch(() => {});
  return {
    ready,
    result,
    ask() {
      child.stdin.end();
      return result;
    },
  };
}

/** Ends whatever still runs, each by its own id. */
export function endPrograms(): void {
  for (const child of running) child.kill("SIGKILL");
}
