/** Asks again and again while somebody wants to know and the orchestrator is not stopped, and not otherwise. */
import type { Orchestrator } from "../../src/index.ts";
import { StoppedError } from "../../src/wait-errors.ts";

export interface PollerOptions {
  /** What it asks, by which its failures are reported. */
  readonly operation: string;
  isWanted(): boolean;
  poll(): Promise<void>;
  /** Lets all go who want to know: the orchestrator was stopped, or polling fails and fails. */
  letGo(error: unknown): void;
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
/** Failures one after the other before all are let go. */
const maxTroubles = 10;

/** @throws StoppedError */
export function requireRunning({ isStopped }: { readonly isStopped: boolean }): void {
  if (isStopped) throw new StoppedError("Cannot follow: the orchestrator was stopped");
}

export function createPoller(
  orchestrator: Pick<Orchestrator, "report" | "isStopped">,
  { operation, isWanted, poll, letGo, ended }: PollerOptions,
): Poller {
  let isRunning = false;
  let wake = (): void => {};

  async function run(): Promise<void> {
    isRunning = true;
    let troubles = 0;
    while (isWanted()) {
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, intervalMs);
        wake = () => {
          clearTimeout(timer);
          resolve();
        };
      });
      if (!isWanted()) break;
      if (orchestrator.isStopped) {
        letGo(new StoppedError("Cannot follow on: the orchestrator was stopped"));
        break;
      }
      try {
        await poll();
        troubles = 0;
      } catch (error) {
        orchestrator.report({ type: "database_trouble", operation, error, attempt: ++troubles });
        if (troubles >= maxTroubles) letGo(error);
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
