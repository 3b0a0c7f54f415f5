import { expect, test } from "vitest";
import { addHistogram, type Histogram, percentilesMs } from "../src/percentile.ts";

const msOf = (bucket: number): number => 2 ** (bucket / 4) / 1_000;

test("percentilesMs() is between the bounds of the bucket that has the one asked for", () => {
  const histogram: Histogram = new Map([
    [40, 50],
    [60, 45],
    [80, 4],
    [100, 1],
  ]);
  const [p50, p95, p99, p100] = percentilesMs(histogram, [0.5, 0.95, 0.99, 1]);
  expect(p50).toBeCloseTo(msOf(41), 10);
  expect(p95).toBeCloseTo(msOf(61), 8);
  expect(p99).toBeCloseTo(msOf(81), 5);
  expect(p100).toBeCloseTo(msOf(101), 3);
  const [p25, p51] = percentilesMs(histogram, [0.25, 0.51]);
  // Half of the bucket's logarithms lie below its middle.
  expect(p25).toBeCloseTo(msOf(40.5), 10);
  expect(p51).toBeGreaterThan(msOf(60));
  expect(p51).toBeLessThan(msOf(61));
});

test("percentilesMs() minds neither the order of buckets nor those that are empty", () => {
  const histogram: Histogram = new Map([
    [9, 1],
    [4, 0],
    [2, 1],
  ]);
  expect(percentilesMs(histogram, [0.5, 1])).toEqual([msOf(3), msOf(10)]);
});

test("percentilesMs() is right within a bucket for what is spread over many", () => {
  const times = Array.from({ length: 5_000 }, (_, n) => Math.exp(((n * 7_919) % 5_000) / 400));
  const histogram: Histogram = new Map();
  for (const ms of times) {
    const bucket = Math.floor(4 * Math.log2(ms * 1_000));
    histogram.set(bucket, (histogram.get(bucket) ?? 0) + 1);
  }
  const sorted = times.toSorted((a, b) => a - b);
  const shares = [0.01, 0.5, 0.95, 0.99, 1];
  percentilesMs(histogram, shares).forEach((ms, place) => {
    const exact = sorted[Math.ceil((shares[place] as number) * sorted.length) - 1] as number;
    expect(Math.abs(Math.log2(ms / exact))).toBeLessThanOrEqual(1 / 4);
  });
});

test("percentilesMs() has one answer for one command, and none to divide by where there is none", () => {
  expect(percentilesMs(new Map([[0, 1]]), [0.5, 0.99])).toEqual([msOf(0.5), msOf(0.99)]);
  expect(percentilesMs(new Map(), [0.5])).toEqual([0]);
});

test("addHistogram() adds what JSON has to what is there", () => {
  const histogram: Histogram = new Map([[1, 1]]);
  addHistogram(histogram, { "1": 2, "30": 4 });
  addHistogram(histogram, {});
  expect([...histogram]).toEqual([
    [1, 3],
    [30, 4],
  ]);
});
