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

/** Pauses of several, which all can be ended at once. */
export interface Pauses {
  /** Resolves after `ms`, or when they are ended, and at once after that. */
  pause(ms: number): Promise<void>;
  end(): void;
}

export function createPauses(clock: Clock): Pauses {
  const waiting = new Set<() => void>();
  let ended = false;
  return {
    pause(ms) {
      if (ended) return Promise.resolve();
      return new Promise((resolve) => {
        const wake = () => {
          timer.cancel();
          waiting.delete(wake);
          resolve();
        };
        const timer = clock.after(ms, wake);
        waiting.add(wake);
      });
    },
    end() {
      ended = true;
      for (const wake of waiting) wake();
    },
  };
}

/** Resolves after `ms`. */
export function pause(clock: Clock, ms: number): Promise<void> {
  return new Promise((resolve) => clock.after(ms, resolve));
}
