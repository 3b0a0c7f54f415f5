/** What the benchmarks make of many measurements. */

/** The value below which `share` (0 to 1) of the values lie. */
export function percentile(values: readonly number[], share: number): number {
  const sorted = [...values].sort((a, b) => a - b);
  const place = Math.min(sorted.length - 1, Math.floor(share * sorted.length));
  const value = sorted[place];
  if (value === undefined) throw new Error("Cannot take a percentile: there are no values");
  return value;
}

export function median(values: readonly number[]): number {
  const below = percentile(values, 0.5);
  return values.length % 2 === 1 ? below : (below + percentile(values, 0.5 - 1 / values.length)) / 2;
}

/** A line of the table at the end. */
export interface Ratio {
  readonly what: string;
  readonly ratio: number;
  /** Smallest and largest of the rounds. */
  readonly range?: readonly [number, number];
  /** What issue 9 asks for; absent where a ratio is for information. */
  readonly wanted?: { readonly atLeast: number } | { readonly atMost: number };
}

export function isMet({ ratio, wanted }: Ratio): boolean | undefined {
  if (!wanted) return undefined;
  return "atLeast" in wanted ? ratio >= wanted.atLeast : ratio <= wanted.atMost;
}

/** The median of ratios taken round by round, so that what slows a whole round down does not count. */
export function ratioOfRounds(what: string, ratios: readonly number[], wanted?: Ratio["wanted"]): Ratio {
  const range = [Math.min(...ratios), Math.max(...ratios)] as const;
  return { what, ratio: median(ratios), range, ...(wanted ? { wanted } : {}) };
}
