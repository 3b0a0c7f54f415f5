import type { Clock } from "./clock.ts";

/** One sleeper and any number of wakers. A raise while nobody sleeps is kept for the next sleep, so no wake-up is lost. */
export interface Wakeup {
  raise(): void;
  /** Sleeps until somebody raises, for `ms` at most (for ever without). */
  sleep(ms?: number): Promise<void>;
}

export function createWakeup(clock: Clock): Wakeup {
  let raised = false;
  let wake: (() => void) | undefined;
  return {
    raise() {
      raised = true;
      wake?.();
    },
    async sleep(ms) {
      if (!raised && (ms === undefined || ms > 0)) {
        await new Promise<void>((resolve) => {
          const timer = ms === undefined || ms === Number.POSITIVE_INFINITY ? undefined : clock.after(ms, resolve);
          wake = () => {
            timer?.cancel();
            resolve();
          };
        });
        wake = undefined;
      }
      raised = false;
    },
  };
}

/** Resolves after `ms`. */
export function pause(clock: Clock, ms: number): Promise<void> {
  return new Promise((resolve) => clock.after(ms, resolve));
}
