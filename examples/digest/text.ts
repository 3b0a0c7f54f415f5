/** Numbers, sizes and paths as people read them. */

export const amount = (value: number): string => value.toLocaleString("en-US");

export const plural = (value: number, one: string, many = `${one}s`): string =>
  `${amount(value)} ${value === 1 ? one : many}`;

export function size(bytes: number): string {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let value = bytes;
  let unit = 0;
  // What would be printed as 1000.0 belongs to the next unit.
  while (value >= 999.95 && unit < units.length - 1) {
    value /= 1000;
    unit += 1;
  }
  return `${unit === 0 ? value : value.toFixed(1)} ${units[unit]}`;
}

export function seconds(ms: number): string {
  const whole = Math.round(ms / 1000);
  if (whole < 60) return `${(ms / 1000).toFixed(1)} s`;
  return `${Math.floor(whole / 60)} min ${whole % 60} s`;
}

/** A text on one line, at most so wide; of what is longer the end is shown, which tells more of a path. */
export function onOneLine(text: string, width: number): string {
  const clean = text.replace(/\p{Cc}/gu, "\ufffd");
  return clean.length <= width ? clean : `…${clean.slice(1 - width)}`;
}
