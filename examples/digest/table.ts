import { relative } from "node:path";
import type { Figures } from "./commands.ts";
import { amount, onOneLine, plural, seconds, size } from "./text.ts";

export interface TableOptions {
  readonly folder: string;
  /** What this process did of the run, and how long it took. */
  readonly commands: number;
  readonly ms: number;
  /** In characters. */
  readonly width: number;
}

/** The figures of a run as a table, whose last column takes what width is left. */
export function table(figures: Figures, { folder, commands, ms, width }: TableOptions): string {
  const { slowest, duplicates, failures } = figures;
  const name = (path: string) => relative(folder, path) || ".";
  const rate = ms > 0 && commands > 0 ? `, ${amount(Math.round((commands * 1000) / ms))} commands per second` : "";

  const sections: { title: string; rows: string[][]; more?: string }[] = [
    {
      title: `Digest of ${folder}`,
      rows: [
        ["folders", amount(figures.folders)],
        ["files", amount(figures.files)],
        ["bytes", `${amount(figures.bytes)} (${size(figures.bytes)})`],
        ["skipped", `${amount(figures.skipped)} (symbolic links, pipes, sockets, devices)`],
        ["duplicates", `${plural(duplicates.groups, "group")} of ${plural(duplicates.files, "file")}`],
        ["wasted", `${amount(duplicates.wastedBytes)} bytes (${size(duplicates.wastedBytes)})`],
        ["failures", amount(failures.count)],
        ["commands", `${amount(figures.commands)}, of which ${amount(figures.retried)} were tried more than once`],
        ["speed", `${plural(commands, "command")} in ${seconds(ms)}${rate}`],
      ],
    },
    {
      title: "Slowest files",
      rows: slowest.map(({ file, bytes, ms: took }) => [`${amount(Math.round(took))} ms`, size(bytes), name(file)]),
    },
    {
      title: "Duplicates that waste most",
      rows: duplicates.largest.map(({ file, bytes, copies, wastedBytes }) => [
        size(wastedBytes),
        `${amount(copies)} × ${size(bytes)}`,
        name(file),
      ]),
    },
    {
      title: "Failures",
      rows: failures.first.map(({ name: command, path, status, error }) => [
        command,
        status,
        `${name(path)}: ${error ?? "no error was recorded"}`,
      ]),
      ...(failures.count > failures.first.length
        ? { more: `and ${amount(failures.count - failures.first.length)} more` }
        : {}),
    },
  ];
  return sections
    .filter(({ rows }) => rows.length > 0)
    .map(({ title, rows, more }) =>
      [onOneLine(title, width), "─".repeat(width), ...columns(rows, width), ...(more ? [`  ${more}`] : [])].join("\n"),
    )
    .join("\n\n");
}

function columns(rows: readonly string[][], width: number): string[] {
  const widths =
    rows[0]?.slice(0, -1).map((_, column) => Math.max(...rows.map((row) => row[column]?.length ?? 0))) ?? [];
  const left = width - widths.reduce((sum, one) => sum + one + 2, 2);
  return rows.map((row) => {
    const last = onOneLine(row.at(-1) ?? "", Math.max(left, 20));
    return `  ${[...widths.map((one, column) => (row[column] ?? "").padEnd(one)), last].join("  ")}`;
  });
}
