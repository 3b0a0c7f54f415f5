/** Asks again and again while somebody wants to know, and not otherwise. */

export interface PollerOptions {
  isWanted(): boolean;
  poll(): Promise<void>;
  /** Hears of each failure; `count` of them came one after the other. */
  failed(error: unknown, count: number): void;
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

export function createPoller({ isWanted, poll, failed, ended }: PollerOptions): Poller {
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
