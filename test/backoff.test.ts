import { expect, test } from "vitest";
import { type Backoff, backoffMs } from "../src/backoff.ts";

const longest = () => 1 - Number.EPSILON;
const century = 100 * 365.25 * 24 * 60 * 60 * 1000;

test("backoffMs() doubles from 5 s up to an hour by default", () => {
  const waits = [1, 2, 3, 4, 10, 11, 12, 2_000, 32_767].map((attempt) => backoffMs({}, attempt, null, longest));
  expect(waits).toEqual([5_000, 10_000, 20_000, 40_000, 2_560_000, 3_600_000, 3_600_000, 3_600_000, 3_600_000]);
});

test("backoffMs() spreads over all of the wait by default, and not at all without jitter", () => {
  expect(backoffMs({}, 2, null, () => 0)).toBe(0);
  expect(backoffMs({}, 2, null, () => 0.5)).toBe(5_000);
  expect(backoffMs({ jitter: "none" }, 2, null, () => 0)).toBe(10_000);
});

test("backoffMs() goes by its options", () => {
  const backoff: Backoff = { initialMs: 100, factor: 3, maxMs: 1_000, jitter: "none" };
  expect([1, 2, 3, 4].map((attempt) => backoffMs(backoff, attempt, null, longest))).toEqual([100, 300, 900, 1_000]);
  expect(backoffMs({ initialMs: 7_200_000, jitter: "none" }, 1, null, longest)).toBe(3_600_000);
  expect(backoffMs({ initialMs: 0, factor: 1e300 }, 32_767, null, longest)).toBe(0);
});

test("backoffMs() asks a function with the attempt and the error, and adds no jitter", () => {
  const error = new Error("slow down");
  const asked: unknown[] = [];
  const backoff: Backoff = (...given) => {
    asked.push(given);
    return 1234.4;
  };
  expect(backoffMs(backoff, 3, error, () => 0)).toBe(1234);
  expect(asked).toEqual([[3, error]]);
});

test("backoffMs() falls back to the default where a function throws or answers nonsense", () => {
  const nonsense = [Number.NaN, -1, Number.POSITIVE_INFINITY, "5", null, undefined, {}, Promise.resolve(5)];
  for (const answer of nonsense) expect(backoffMs(() => answer as number, 2, null, longest)).toBe(10_000);
  const throws = () => {
    throw new Error("no");
  };
  expect(backoffMs(throws, 2, null, longest)).toBe(10_000);
});

test("backoffMs() never waits longer than a hundred years", () => {
  expect(backoffMs(() => 1e300, 1, null, longest)).toBe(century);
  expect(backoffMs({ initialMs: century, maxMs: century, jitter: "none" }, 9, null, longest)).toBe(century);
});
