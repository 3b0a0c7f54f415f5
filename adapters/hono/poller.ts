/** Asks again and again while somebody wants to know and the orchestrator is not stopped, and not otherwise. */
import { StoppedError } from "../../src/wait-errors.ts";

export interface PollerOptions {
  isWanted(): boolean;
  /** Whether the orchestrator is: it is asked nothing any more. */
  isStopped(): boolean;
  poll(): Promise<void>;
  /** Hears of each failure; `count` of them came one after the other. */
  failed(error: unknown, count: number): void;
  /** It ends although somebody wants to know. */
  stopped(error: StoppedError): void;
  /** Nobody wants to know any more. */
  ended(): void;
}

export interface Poller {
  /** Begins, where it has not begun. The first time it asks is a second later. */
  start(): void;
  /** Looks at once whether it is still wanted. */
  look(): void;
}

const intervalMs = 1_000;

/** @throws StoppedError */
export function requireRunning({ isStopped }: { readonly isStopped: boolean }): void {
  if (isStopped) throw new StoppedError("Cannot follow: the orchestrator was stopped");
}

export function createPoller({ isWanted, isStopped, poll, failed, stopped, ended }: PollerOptions): Poller {
  let isRunning = false;
  let wake = (): void => {};

  async function run(): Promise<void> {
    isRunning = true;
    let failures = 0;
    while (isWanted()) {
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, intervalMs);
        wake = () => {
          clearTimeout(timer);
          resolve();
        };
      });
      if (!isWanted()) break;
      if (isStopped()) {
        stopped(new StoppedError("Cannot follow on: the orchestrator was stopped"));
        break;
      }
      try {
        await poll();
        failures = 0;
      } catch (error) {
        failures += 1;
        failed(error, failures);
      }
    }
    isRunning = false;
    ended();
  }

  return {
    start() {
      if (!isRunning) void run();
    },
    look() {
      if (!isWanted()) wake();
    },
  };
}
