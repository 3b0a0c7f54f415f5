/** Starts workers as processes, and ends those that a test leaves. */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import process from "node:process";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import type { Observation } from "../../src/index.ts";
import type { WorkerProcessOptions } from "./worker-process.ts";

const program = fileURLToPath(new URL("worker-process.ts", import.meta.url));

export interface WorkerProcess {
  readonly child: ChildProcess;
  readonly observations: Observation[];
  readonly stderr: () => string;
  /** Resolves with the first observation of this kind, from now or before. */
  observed<T extends Observation["type"]>(type: T, limitMs?: number): Promise<Extract<Observation, { type: T }>>;
  /** Sends a signal, and waits for the end where it brings one. */
  end(signal: NodeJS.Signals): Promise<void>;
}

const running = new Set<ChildProcess>();

export function startWorkerProcess(options: WorkerProcessOptions): WorkerProcess {
  const child = spawn(process.execPath, ["--import", "tsx", program, JSON.stringify(options)], {
    stdio: ["ignore", "pipe", "pipe"],
  });
  running.add(child);
  child.once("exit", () => running.delete(child));
  const observations: Observation[] = [];
  const waiting = new Set<() => void>();
  let stderr = "";
  child.stderr?.on("data", (data) => {
    stderr += data;
  });
  createInterface({ input: child.stdout as NodeJS.ReadableStream }).on("line", (line) => {
    observations.push(JSON.parse(line) as Observation);
    for (const look of waiting) look();
  });
  return {
    child,
    observations,
    stderr: () => stderr,
    observed(type, limitMs = 120_000) {
      return new Promise((resolve, reject) => {
        const find = () => observations.find((one) => one.type === type);
        const timer = setTimeout(() => {
          waiting.delete(look);
          reject(new Error(`No "${type}" within ${limitMs} ms; stderr: ${stderr}`));
        }, limitMs);
        const look = () => {
          const found = find();
          if (!found) return;
          clearTimeout(timer);
          waiting.delete(look);
          resolve(found as never);
        };
        waiting.add(look);
        look();
      });
    },
    async end(signal) {
      if (child.exitCode !== null || child.signalCode !== null) return;
      const exited = once(child, "exit");
      child.kill(signal);
      await exited;
    },
  };
}

/** Kills what is left of them. */
export async function endWorkerProcesses(): Promise<void> {
  await Promise.all(
    [...running].map(async (child) => {
      const exited = once(child, "exit");
      child.kill("SIGKILL");
      await exited;
    }),
  );
}
