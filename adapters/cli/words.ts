/** Amounts and times as people read them. */

export const plural = (count: number, noun: string): string =>
  `${count.toLocaleString("en")} ${noun}${count === 1 ? "" : "s"}`;

/** To the second, in UTC: `2026-10-01 12:00:00Z`. */
export const timeText = (time: Date | undefined): string | undefined =>
  time
    ?.toISOString()
    .replace("T", " ")
    .replace(/\.\d+Z$/, "Z");

/** How long ago, or in how long. */
export function agoText(time: Date, now: number = Date.now()): string {
  const distance = now - time.getTime();
  return distance >= 0 ? `${durationText(distance)} ago` : `in ${durationText(-distance)}`;
}

/** `12 ms`, `1.5 s`, `12 min`, `3.4 h`, `12 d`. */
export function durationText(ms: number): string {
  if (ms < 1_000) return `${rounded(ms)} ms`;
  if (ms < 60_000) return `${rounded(ms / 1_000)} s`;
  if (ms < 3_600_000) return `${rounded(ms / 60_000)} min`;
  if (ms < 172_800_000) return `${rounded(ms / 3_600_000)} h`;
  return `${rounded(ms / 86_400_000)} d`;
}

const rounded = (value: number): string =>
  value < 10 ? String(Math.round(value * 10) / 10) : String(Math.round(value));
