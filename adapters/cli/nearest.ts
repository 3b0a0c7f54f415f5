/** The candidate that was probably meant: at most a third of its characters differ. Undefined where none is near. */
export function nearest(text: string, candidates: Iterable<string>): string | undefined {
  let best: string | undefined;
  let least = Number.POSITIVE_INFINITY;
  for (const candidate of candidates) {
    const distance = editDistance(text.toLowerCase(), candidate.toLowerCase());
    if (distance > Math.max(1, Math.floor(candidate.length / 3))) continue;
    // Of two that are as near the one of the same length: a swap is commoner than a letter too many.
    const rank = distance + (candidate.length === text.length ? 0 : 0.5);
    if (rank >= least) continue;
    best = candidate;
    least = rank;
  }
  return best;
}

/** `; did you mean "x"?`, or nothing. */
export function didYouMean(text: string, candidates: Iterable<string>, prefix = ""): string {
  const found = nearest(text, candidates);
  return found === undefined ? "" : `; did you mean "${prefix}${found}"?`;
}

/** Characters put in, left out, replaced, or swapped with their neighbour. */
function editDistance(a: string, b: string): number {
  // What is much longer or shorter is not a mistyped word, and a long argument is not worth a table.
  if (Math.abs(a.length - b.length) > 20) return Number.POSITIVE_INFINITY;
  let before: number[] = [];
  let last = Array.from({ length: b.length + 1 }, (_, column) => column);
  for (let row = 1; row <= a.length; row++) {
    const current = [row];
    for (let column = 1; column <= b.length; column++) {
      const cost = a[row - 1] === b[column - 1] ? 0 : 1;
      let distance = Math.min(
        (last[column] as number) + 1,
        (current[column - 1] as number) + 1,
        (last[column - 1] as number) + cost,
      );
      if (row > 1 && column > 1 && a[row - 1] === b[column - 2] && a[row - 2] === b[column - 1]) {
        distance = Math.min(distance, (before[column - 2] as number) + 1);
      }
      current.push(distance);
    }
    before = last;
    last = current;
  }
  return last[b.length] as number;
}
