/**
 * Percentiles from histograms. Bucket n has what took from 2^(n/4) µs up to 2^((n+1)/4) µs: four buckets an octave, each
 * 19 % wide, from a microsecond to centuries. So histograms of any times can be added up, and stay small.
 */

/** How many there are in a bucket, by its number. */
export type Histogram = Map<number, number>;

const bucketsPerOctave = 4;

export function addHistogram(to: Histogram, from: Readonly<Record<string, number>>): void {
  for (const [bucket, count] of Object.entries(from)) to.set(Number(bucket), (to.get(Number(bucket)) ?? 0) + count);
}

/**
 * What a share of them took at most, in ms, for several shares at once, each over 0 to 1. Within a bucket they are taken
 * to be spread evenly by their logarithms, so the answer is in the right bucket: at most 19 % off.
 */
export function percentilesMs(histogram: Histogram, shares: readonly number[]): number[] {
  const buckets = [...histogram].filter(([, count]) => count > 0).toSorted(([a], [b]) => a - b);
  const total = buckets.reduce((sum, [, count]) => sum + count, 0);
  return shares.map((share) => {
    const rank = share * total;
    let before = 0;
    for (const [bucket, count] of buckets) {
      if (before + count >= rank) return 2 ** ((bucket + (rank - before) / count) / bucketsPerOctave) / 1_000;
      before += count;
    }
    return 0;
  });
}
