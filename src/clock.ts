/**
 * The process's clock and timers, as one thing that a test can replace. It measures distances only: when a command
 * is due or a lease ends is decided by the database's clock, never by this one.
 */

/** What a pending timer is cancelled by. */
export interface Timer {
  cancel(): void;
}

export interface Clock {
  /** Milliseconds from an arbitrary start that never go back. */
  now(): number;
  /** Runs `callback` once after `ms` (0 or more; more than 24.8 days counts as that). */
  after(ms: number, callback: () => void): Timer;
  /** A number from 0 up to, but not including, 1. */
  random(): number;
}

/** The longest time that a JavaScript timer can wait; a longer one would fire at once. */
const longestTimerMs = 2 ** 31 - 1;

/** The clock of the platform. */
export const systemClock: Clock = {
  now: () => performance.now(),
  after(ms, callback) {
    const timer = setTimeout(callback, Math.min(Math.max(ms, 0), longestTimerMs));
    return { cancel: () => clearTimeout(timer) };
  },
  random: () => Math.random(),
};
