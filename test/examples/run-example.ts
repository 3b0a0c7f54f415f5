/** Runs an example as its users do, as a process of its own, and lets a test wait for what it prints. */

import { spawn } from "node:child_process";
import { fileURLToPath } from "node:url";

const checkout = fileURLToPath(new URL("../..", import.meta.url));

/** How long a line, or the end, may take: far more than it does on any machine, also on one with much else to do. */
const patienceMs = 120_000;

export interface RunningExample {
  /** What it has printed so far, on stdout and stderr. */
  readonly output: string;
  /** Resolves when it has printed something that matches; rejects when it ends without, or takes too long. */
  prints(pattern: RegExp): Promise<RegExpExecArray>;
  kill(signal: NodeJS.Signals): void;
  /** Its exit code, or the signal that it was ended by. */
  readonly ended: Promise<number | NodeJS.Signals>;
}

/** @param example a path below examples/, without `.ts`. */
export function runExample(
  example: string,
  args: readonly string[] = [],
  variables: Record<string, string> = {},
): RunningExample {
  const { DATABASE_URL: _, ...inherited } = process.env;
  const child = spawn(process.execPath, ["--import", "tsx", `examples/${example}.ts`, ...args], {
    cwd: checkout,
    env: { ...inherited, ...variables },
    stdio: ["ignore", "pipe", "pipe"],
  });
  let output = "";
  let over = false;
  const watchers = new Set<() => void>();
  const look = (): void => {
    for (const watcher of watchers) watcher();
  };
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding("utf8").on("data", (text: string) => {
      output += text;
      look();
    });
  }
  const ended = new Promise<number | NodeJS.Signals>((resolve, reject) => {
    const timer = setTimeout(() => {
      child.kill("SIGKILL");
      reject(new Error(`Example ${example} did not end within ${patienceMs} ms. It printed:\n${output}`));
    }, patienceMs);
    child.on("close", (code, signal) => {
      clearTimeout(timer);
      over = true;
      look();
      resolve(code ?? signal ?? -1);
    });
  });
  // Whoever does not wait for the end is told by what it waits for.
  ended.catch(() => {});

  return {
    get output() {
      return output;
    },
    prints: (pattern) =>
      new Promise((resolve, reject) => {
        const timer = setTimeout(() => fail(`within ${patienceMs} ms`), patienceMs);
        const done = (): void => {
          clearTimeout(timer);
          watchers.delete(watcher);
        };
        const fail = (when: string): void => {
          done();
          reject(new Error(`Example ${example} did not print ${pattern} ${when}. It printed:\n${output}`));
        };
        const watcher = (): void => {
          const match = pattern.exec(output);
          if (match) {
            done();
            resolve(match);
          } else if (over) fail("before it ended");
        };
        watchers.add(watcher);
        watcher();
      }),
    kill: (signal) => void child.kill(signal),
    ended,
  };
}
