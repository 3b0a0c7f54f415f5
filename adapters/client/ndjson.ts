/** Lines of JSON, as they are sent and as they are answered. */

export function linesOf(values: readonly unknown[]): string {
  return values.map((value) => `${JSON.stringify(value)}\n`).join("");
}

/** What of an answer arrived whole. */
export function answersOf(text: string): Readonly<Record<string, unknown>>[] {
  const whole = text.slice(0, text.lastIndexOf("\n") + 1);
  return whole
    .split("\n")
    .filter((line) => line !== "")
    .map((line) => JSON.parse(line));
}
