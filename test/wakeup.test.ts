import { expect, test } from "vitest";
import { createWakeup, pause } from "../src/wakeup.ts";
import { createFakeClock } from "./fake-clock.ts";

/** Whether a promise has settled by now. */
function watch(promise: Promise<unknown>): { done: boolean } {
  const state = { done: false };
  void promise.then(() => {
    state.done = true;
  });
  return state;
}

test("sleep() ends when somebody raises, and leaves no timer", async () => {
  const clock = createFakeClock();
  const wakeup = createWakeup(clock);
  const sleep = watch(wakeup.sleep(1_000));
  await clock.advance(999);
  expect(sleep.done).toBe(false);
  wakeup.raise();
  await clock.advance(0);
  expect(sleep.done).toBe(true);
  expect(clock.pending).toBe(0);
});

test("sleep() ends after its time", async () => {
  const clock = createFakeClock();
  const sleep = watch(createWakeup(clock).sleep(1_000));
  await clock.advance(1_000);
  expect(sleep.done).toBe(true);
});

test("sleep() without a time waits for a raise, and sets no timer", async () => {
  const clock = createFakeClock();
  const wakeup = createWakeup(clock);
  for (const ms of [undefined, Number.POSITIVE_INFINITY]) {
    const sleep = watch(wakeup.sleep(ms));
    await clock.advance(1e9);
    expect(sleep.done).toBe(false);
    expect(clock.pending).toBe(0);
    wakeup.raise();
    await clock.advance(0);
    expect(sleep.done).toBe(true);
  }
});

test("raise() while nobody sleeps is kept for the next sleep, and for one only", async () => {
  const clock = createFakeClock();
  const wakeup = createWakeup(clock);
  wakeup.raise();
  wakeup.raise();
  const first = watch(wakeup.sleep());
  await clock.advance(0);
  expect(first.done).toBe(true);
  const second = watch(wakeup.sleep(10));
  await clock.advance(0);
  expect(second.done).toBe(false);
  await clock.advance(10);
  expect(second.done).toBe(true);
});

test("raise() twice ends one sleep, not the one after it", async () => {
  const clock = createFakeClock();
  const wakeup = createWakeup(clock);
  const first = wakeup.sleep();
  wakeup.raise();
  wakeup.raise();
  await first;
  const second = watch(wakeup.sleep(10));
  await clock.advance(0);
  expect(second.done).toBe(false);
  wakeup.raise();
  await clock.advance(0);
  expect(second.done).toBe(true);
});

test("sleep() for no time returns at once", async () => {
  const clock = createFakeClock();
  const wakeup = createWakeup(clock);
  await wakeup.sleep(0);
  await wakeup.sleep(-5);
  expect(clock.pending).toBe(0);
});

test("pause() resolves after its time", async () => {
  const clock = createFakeClock();
  const paused = watch(pause(clock, 50));
  await clock.advance(49);
  expect(paused.done).toBe(false);
  await clock.advance(1);
  expect(paused.done).toBe(true);
});
