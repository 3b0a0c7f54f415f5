import { expect } from "vitest";

/**
 * Waits for four more of what `count` counts, and requires that there were no more than one poller makes in that time:
 * a busy machine makes them fewer, never more.
 */
export async function onceASecond(count: () => number | Promise<number>): Promise<void> {
  const beganAt = performance.now();
  const before = await count();
  let more = 0;
  const counting = async () => {
    more = (await count()) - before;
    return more;
  };
  await expect.poll(counting, { timeout: 45_000, interval: 100 }).toBeGreaterThanOrEqual(4);
  const elapsedMs = performance.now() - beganAt;
  // Timers may be early, by a millisecond each.
  expect(more).toBeLessThanOrEqual(Math.floor((elapsedMs + 50) / 1_000) + 1);
}
