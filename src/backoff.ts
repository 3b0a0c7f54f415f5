/** How long a command waits between a failed attempt and the next. */

import { type Keys, maxDelayMs, requireMs, shown } from "./limits.ts";

/** Exponential backoff: before attempt n + 1 at most `initialMs × factor^(n - 1)`, and never more than `maxMs`. */
export interface BackoffOptions {
  /**
   * The longest wait after the first attempt, in ms: 0 to a hundred years.
   *
   * @default 5_000
   */
  readonly initialMs?: number | undefined;
  /**
   * What the wait grows by with each attempt: 1 or more.
   *
   * @default 2
   */
  readonly factor?: number | undefined;
  /**
   * The longest wait of all, in ms: 0 to a hundred years.
   *
   * @default 3_600_000
   */
  readonly maxMs?: number | undefined;
  /**
   * "full" waits any time from 0 to that, so that what failed together does not come back together; "none" exactly that.
   *
   * @default "full"
   */
  readonly jitter?: "full" | "none" | undefined;
}

/**
 * Exponential backoff, or a function of the attempt that failed (from 1) and what it threw, which answers the wait in
 * ms. A function that throws, or answers no number from 0 up, is replaced by the default for that once.
 */
export type Backoff = BackoffOptions | ((attempt: number, error: unknown) => number);

/**
 * The wait after `attempt` (from 1) failed with `error`: whole ms from 0 to a hundred years, whatever `backoff` does.
 * `random` answers a number from 0 up to, but not including, 1. An answer of a function gets no jitter.
 */
export function backoffMs(backoff: Backoff, attempt: number, error: unknown, random: () => number): number {
  if (typeof backoff !== "function") return exponentialMs(backoff, attempt, random);
  let ms: unknown;
  try {
    ms = backoff(attempt, error);
  } catch {
    // The command has failed already, and has its error: a second one must not stand in the way of its retry.
  }
  if (typeof ms !== "number" || !Number.isFinite(ms) || ms < 0) return exponentialMs({}, attempt, random);
  return Math.min(Math.round(ms), maxDelayMs);
}

function exponentialMs(options: BackoffOptions, attempt: number, random: () => number): number {
  const { initialMs = 5_000, factor = 2, maxMs = 3_600_000, jitter = "full" } = options;
  // Too high a power is infinite, which the cap takes away; but 0 times that is no number.
  const longestMs = initialMs === 0 ? 0 : Math.min(initialMs * factor ** Math.max(attempt - 1, 0), maxMs, maxDelayMs);
  return Math.round(jitter === "none" ? longestMs : longestMs * random());
}

const backoffKeys: Keys<BackoffOptions> = { initialMs: true, factor: true, maxMs: true, jitter: true };

/**
 * Refuses a backoff that could not be followed. `attempt` says what cannot be done.
 *
 * @throws TypeError or RangeError.
 */
export function requireBackoff(attempt: string, backoff: unknown): void {
  if (typeof backoff === "function") return;
  if (typeof backoff !== "object" || backoff === null) {
    throw new TypeError(`${attempt}: backoff must be an object or a function, got ${shown(backoff)}`);
  }
  for (const key of Object.keys(backoff)) {
    if (Object.hasOwn(backoffKeys, key)) continue;
    const keys = Object.keys(backoffKeys).join(", ");
    throw new TypeError(`${attempt}: backoff must have no keys but ${keys}, got ${shown(key)}`);
  }
  const { initialMs, factor, maxMs, jitter } = backoff as Record<keyof BackoffOptions, unknown>;
  if (initialMs !== undefined) requireMs(attempt, "backoff.initialMs", initialMs, maxDelayMs);
  if (maxMs !== undefined) requireMs(attempt, "backoff.maxMs", maxMs, maxDelayMs);
  if (factor !== undefined && !(typeof factor === "number" && factor >= 1 && factor < Number.POSITIVE_INFINITY)) {
    throw new RangeError(`${attempt}: backoff.factor must be a number from 1 up, got ${shown(factor)}`);
  }
  if (jitter !== undefined && jitter !== "full" && jitter !== "none") {
    throw new TypeError(`${attempt}: backoff.jitter must be "full" or "none", got ${shown(jitter)}`);
  }
}
