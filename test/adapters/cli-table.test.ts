/** What is hard to see from outside a terminal: how wide tables are, and which word was probably meant. */

import { expect, test } from "vitest";
import { readTime } from "../../adapters/cli/arguments.ts";
import { nearest } from "../../adapters/cli/nearest.ts";
import { type Column, table } from "../../adapters/cli/table.ts";
import { displayWidth, plain } from "../../adapters/cli/terminal.ts";

interface Row {
  readonly id: string;
  readonly count: number;
  readonly text?: string;
}

const columns: readonly Column<Row>[] = [
  { title: "id", value: ({ id }) => id },
  { title: "count", value: ({ count }) => count },
  { title: "text", value: ({ text }) => text, cut: true },
];

test("table() aligns words to the left and figures to the right, and leaves out what is empty", () => {
  expect(
    table(
      [
        { id: "a", count: 1 },
        { id: "long", count: 1_234 },
      ],
      columns,
    ),
  ).toBe(["id    count", "a         1", "long  1,234"].join("\n"));
});

test("table() cuts what may be cut to the width, and never an id", () => {
  const rows = [{ id: "0123456789", count: 1, text: "a text that is too long for it" }];
  const lines = table(rows, columns, 30).split("\n");
  expect(lines.map(displayWidth).every((width) => width <= 30)).toBe(true);
  expect(lines[1]).toMatch(/^0123456789 +1 {2}a text .*…$/);
  expect(table(rows, columns, 5)).toContain("0123456789");
});

test("table() counts wide characters twice, and obeys no control characters", () => {
  const lines = table(
    [
      { id: "漢字", count: 1 },
      { id: "a\x1b[31m\nb", count: 2 },
    ],
    columns,
  ).split("\n");
  expect(new Set(lines.map(displayWidth)).size).toBe(1);
  expect(lines.join("")).not.toContain("\x1b");
  expect(plain("a\u202eb\r\n\u009bc")).toBe("a b c");
});

test.each([
  ["statsu", "status"],
  ["STATUS", "status"],
  ["lst", "list"],
  ["queus", "queues"],
  ["frobnicate", undefined],
  ["", undefined],
  ["x".repeat(100_000), undefined],
])("nearest(%j) is %j", (text, expected) => {
  expect(nearest(text, ["list", "queues", "stats", "status"])).toBe(expected);
});

test("readTime() takes ISO 8601 as UTC, and distances both ways", () => {
  const read = (text: string, direction?: "ago" | "ahead") =>
    readTime("Cannot list", "--from", text, direction)?.getTime() ?? 0;
  expect(read("2026-10-01")).toBe(Date.UTC(2026, 9, 1));
  expect(read("2026-10-01 12:30")).toBe(Date.UTC(2026, 9, 1, 12, 30));
  expect(read("2026-10-01T12:30+02:00")).toBe(Date.UTC(2026, 9, 1, 10, 30));
  const hourMs = 3_600_000;
  for (const [text, distance] of [
    ["1h", hourMs],
    ["90m", 1.5 * hourMs],
    ["2d", 48 * hourMs],
    ["1w", 168 * hourMs],
  ] as const) {
    expect(Math.abs(Date.now() - distance - read(text))).toBeLessThan(5_000);
    expect(Math.abs(Date.now() + distance - read(text, "ahead"))).toBeLessThan(5_000);
  }
  for (const text of ["", "1", "1y", "yesterday", "2026-13-01", "-1h", "1800-01-01"]) {
    expect(() => read(text), text).toThrow(/--from must/);
  }
});
