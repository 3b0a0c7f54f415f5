import type { Clock } from "../src/clock.ts";

/** A clock of which so many seconds pass in one. */
export const hurriedClock = (times: number): Clock => ({
  now: () => performance.now() * times,
  after(ms, callback) {
    const timer = setTimeout(callback, Math.min(ms / times, 2 ** 31 - 1));
    return { cancel: () => clearTimeout(timer) };
  },
  random: () => Math.random(),
});
