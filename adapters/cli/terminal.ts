/** What the command line knows of where it prints to. */

import process from "node:process";
import type { WriteStream } from "node:tty";

const codes = { bold: 1, dim: 2, red: 31, green: 32, yellow: 33, cyan: 36 } as const;

export type Colour = keyof typeof codes;

/** In characters; undefined where the output is no terminal, and so has no edge. */
export const terminalWidth = (stream: WriteStream = process.stdout): number | undefined =>
  stream.isTTY ? stream.columns || 80 : undefined;

/** Colours are for terminals, and not for who has said no (https://no-color.org). */
const isColoured = (stream: WriteStream): boolean =>
  stream.isTTY && !process.env.NO_COLOR && process.env.TERM !== "dumb";

export function paint(text: string, colour: Colour | undefined, stream: WriteStream = process.stdout): string {
  return colour !== undefined && isColoured(stream) ? `\x1b[${codes[colour]}m${text}\x1b[0m` : text;
}

/** The colour of a command's status. */
export function statusColour(status: string): Colour | undefined {
  switch (status) {
    case "succeeded":
      return "green";
    case "failed":
    case "timed_out":
    case "not_found":
      return "red";
    case "cancelled":
      return "yellow";
    case "running":
      return "cyan";
    default:
      return undefined;
  }
}

/**
 * A text of somebody else's on one line: names and messages of errors come from the outside, and a terminal obeys
 * control characters.
 */
export const plain = (text: string): string => text.replaceAll(/[\s\p{Cc}\p{Cf}\p{Zl}\p{Zp}]+/gu, " ").trim();

const wide =
  /[\u1100-\u115f\u2e80-\ua4cf\uac00-\ud7a3\uf900-\ufaff\ufe30-\ufe6f\uff00-\uff60\uffe0-\uffe6]|\p{Extended_Pictographic}/u;

/** How many columns of a terminal a text takes. */
export function displayWidth(text: string): number {
  let width = 0;
  for (const character of text) {
    if (/\p{M}/u.test(character)) continue;
    width += character > "\u10ff" && wide.test(character) ? 2 : 1;
  }
  return width;
}

/** A text that takes at most `width` columns, with `…` for what was left out. */
export function truncate(text: string, width: number): string {
  if (displayWidth(text) <= width) return text;
  let taken = "";
  let left = width - 1;
  for (const character of text) {
    left -= displayWidth(character);
    if (left < 0) break;
    taken += character;
  }
  return width < 1 ? "" : `${taken}…`;
}

/** Writes a line to stdout and resolves when it has been taken: the process may exit right after. */
export function print(text: string): Promise<void> {
  return new Promise((resolve, reject) => {
    process.stdout.write(`${text}\n`, (error) => (error ? reject(error) : resolve()));
  });
}

/** One document of JSON: over several lines for who reads it, on one for programs. */
export const printJson = (value: unknown): Promise<void> =>
  print(JSON.stringify(value, null, process.stdout.isTTY ? 2 : undefined));
