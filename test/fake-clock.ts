/** A clock that stands still until a test moves it: timers run in the order of their times, and chance is chosen. */

import type { Clock, Timer } from "../src/clock.ts";

export interface FakeClock extends Clock {
  /** What `random()` answers. @default 0.5 */
  chance: number;
  /** How many timers wait: none is left behind by what has been stopped. */
  readonly pending: number;
  /** Goes on by `ms`, and runs on the way what is due; what each timer sets off goes as far as it can before the next. */
  advance(ms: number): Promise<void>;
}

export function createFakeClock(): FakeClock {
  let now = 1_000;
  const timers = new Set<{ at: number; callback: () => void }>();
  /** Lets promises settle that wait for nothing but each other. */
  const settle = () => new Promise<void>((resolve) => setImmediate(resolve));
  return {
    chance: 0.5,
    get pending() {
      return timers.size;
    },
    now: () => now,
    random() {
      return this.chance;
    },
    after(ms, callback): Timer {
      const timer = { at: now + Math.max(ms, 0), callback };
      timers.add(timer);
      return { cancel: () => void timers.delete(timer) };
    },
    async advance(ms) {
      const end = now + ms;
      await settle();
      for (;;) {
        // The first of those that are due at the same time is the one that was set first.
        let next: { at: number; callback: () => void } | undefined;
        for (const timer of timers) if (timer.at <= end && (!next || timer.at < next.at)) next = timer;
        if (!next) break;
        timers.delete(next);
        now = Math.max(now, next.at);
        next.callback();
        await settle();
      }
      now = end;
    },
  };
}
