/** Tables as the command line prints them: aligned, and on a terminal no wider than it is. */

import { type Colour, displayWidth, paint, plain, terminalWidth, truncate } from "./terminal.ts";

/** What stands in a cell. Undefined is empty. */
export type Cell = string | number | undefined;

export interface Column<Row> {
  readonly title: string;
  readonly value: (row: Row) => Cell;
  readonly colour?: (row: Row) => Colour | undefined;
  /** Whether it may be cut where the terminal is too narrow: not what is copied from there, such as ids. */
  readonly cut?: boolean;
}

/** No column is cut further than this. */
const leastWidth = 6;
const gap = 2;

/** @param width in characters; undefined: as wide as it gets. */
export function table<Row>(
  rows: readonly Row[],
  columns: readonly Column<Row>[],
  width: number | undefined = terminalWidth(),
): string {
  const texts = rows.map((row) => columns.map((column) => textOf(column.value(row))));
  // A column that has nothing to say is left out.
  const kept = columns.flatMap((_, index) => (texts.some((line) => line[index] !== "") ? [index] : []));
  const right = kept.map((index) => rows.every((row) => isFigure(columns[index]?.value(row))));
  const widths = kept.map((index) =>
    Math.max(...[columns[index]?.title ?? "", ...texts.map((line) => line[index] ?? "")].map(displayWidth)),
  );
  if (width !== undefined)
    narrow(
      widths,
      kept.map((index) => columns[index]?.cut === true),
      width,
    );

  const line = (cells: readonly string[], colours: readonly (Colour | undefined)[]): string =>
    cells
      .map((cell, place) => {
        const room = widths[place] as number;
        const text = truncate(cell, room);
        const padding = " ".repeat(room - displayWidth(text));
        const painted = paint(text, colours[place]);
        if (right[place]) return padding + painted;
        return place === cells.length - 1 ? painted : painted + padding;
      })
      .join(" ".repeat(gap))
      .trimEnd();
  const titles = kept.map((index) => columns[index]?.title ?? "");
  return [
    line(
      titles,
      kept.map(() => "bold"),
    ),
    ...rows.map((row, at) =>
      line(
        kept.map((index) => texts[at]?.[index] ?? ""),
        kept.map((index) => columns[index]?.colour?.(row)),
      ),
    ),
  ].join("\n");
}

/** Names and values below each other, those without a value left out; what is too wide goes on, as it is copied from. */
export function fields(
  entries: readonly (readonly [name: string, value: Cell, colour?: Colour | undefined])[],
): string {
  const kept = entries.filter(([, value]) => value !== undefined && value !== "");
  const widest = Math.max(0, ...kept.map(([name]) => name.length));
  return kept.map(([name, value, colour]) => `${name.padEnd(widest)}  ${paint(textOf(value), colour)}`).join("\n");
}

const isFigure = (value: Cell): boolean =>
  value === undefined || typeof value === "number" || /^[\d,.]+( ?(?:ms|s|min|h|d|%))?$/.test(value);

const textOf = (value: Cell): string =>
  value === undefined ? "" : typeof value === "number" ? value.toLocaleString("en") : plain(value);

/** Takes from the widest column that may be cut, until they fit or none has anything left to give. */
function narrow(widths: number[], cut: readonly boolean[], width: number): void {
  let over = widths.reduce((sum, one) => sum + one + gap, -gap) - width;
  while (over > 0) {
    let widest = -1;
    for (const [place, one] of widths.entries()) {
      if (cut[place] && one > leastWidth && one > (widths[widest] ?? 0)) widest = place;
    }
    if (widest < 0) return;
    widths[widest] = (widths[widest] as number) - 1;
    over -= 1;
  }
}
