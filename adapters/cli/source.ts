/** Where a text is read from: the path of a file, or `-` for standard input. */

import { createReadStream, statSync } from "node:fs";
import process from "node:process";
import { MisuseError } from "./misuse.ts";

export const streamOf = (source: string): NodeJS.ReadableStream =>
  source === "-" ? process.stdin : createReadStream(source, { encoding: "utf8" });

/** All of it. @throws MisuseError for a file that there is not. */
export async function readAll(attempt: string, source: string): Promise<string> {
  if (source !== "-") sizeOf(attempt, source);
  let text = "";
  const stream = streamOf(source);
  stream.setEncoding("utf8");
  for await (const chunk of stream) text += chunk;
  return text;
}

/** Of a file, in bytes. @throws MisuseError for one that there is not. */
export function sizeOf(attempt: string, path: string): number {
  try {
    return statSync(path).size;
  } catch (error) {
    if ((error as { code?: unknown }).code !== "ENOENT") throw error;
    throw new MisuseError(`${attempt}: --file names ${JSON.stringify(path)}, and there is no such file`);
  }
}
