/**
 * Lines of JSON without end: read as they arrive, a few hundred at a time, and answered before the next ones are read.
 * So memory is bounded by one line and one part of the body, and whoever does not read the answers is not read from.
 */

import { joined } from "../../src/signed-call.ts";
import { Problem } from "./problem.ts";
import { decodeUtf8 } from "./security.ts";

export interface Line {
  /** From 1, blank lines counted. */
  readonly line: number;
  /** Or why it could not be read. The lines behind it can. */
  readonly text: string | Problem;
}

const maxLines = 500;
/** How long a sender may be silent. */
const idleMs = 30_000;
const newline = 0x0a;

/** Lines as they arrive, 500 at most at a time. Blank ones are left out. */
export async function* linesOf(
  body: ReadableStream<Uint8Array> | null,
  maxLineBytes: number,
): AsyncGenerator<readonly Line[]> {
  if (body === null) return;
  const reader = body.getReader();
  let parts: Uint8Array[] = [];
  let bytes = 0;
  let line = 0;
  let ended = false;

  const add = (part: Uint8Array): void => {
    bytes += part.byteLength;
    // Of a line that is too long nothing is kept.
    if (bytes > maxLineBytes) parts = [];
    else if (part.byteLength > 0) parts.push(part);
  };
  const take = (): Line | undefined => {
    line += 1;
    const [taken, size] = [parts, bytes];
    parts = [];
    bytes = 0;
    if (size > maxLineBytes) {
      return { line, text: new Problem(413, "too_large", { detail: `A line may have ${maxLineBytes} bytes` }) };
    }
    try {
      // Most lines lie within one part, which need not be copied.
      const text = decodeUtf8(taken.length === 1 ? (taken[0] as Uint8Array) : joined(taken, size));
      return text.trim() === "" ? undefined : { line, text };
    } catch (error) {
      return { line, text: error as Problem };
    }
  };

  try {
    while (!ended) {
      const { done, value } = await inTime(reader.read());
      ended = done;
      let batch: Line[] = [];
      let start = 0;
      const part = value ?? new Uint8Array();
      for (let end = part.indexOf(newline); end >= 0; end = part.indexOf(newline, start)) {
        add(part.subarray(start, end));
        start = end + 1;
        const taken = take();
        if (taken) batch.push(taken);
        if (batch.length < maxLines) continue;
        yield batch;
        batch = [];
      }
      // A copy: what is left of a part must not keep all of it.
      add(part.slice(start));
      if (ended && bytes > 0) {
        const taken = take();
        if (taken) batch.push(taken);
      }
      if (batch.length > 0) yield batch;
    }
  } finally {
    if (!ended) reader.cancel().catch(() => {});
  }
}

async function inTime<Result>(reading: Promise<Result>): Promise<Result> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Problem(408, "timeout", { detail: "Nothing came for 30 s" })), idleMs);
  });
  try {
    return await Promise.race([reading, late]);
  } finally {
    clearTimeout(timer);
  }
}

/** A body of answers, made when somebody reads it. */
export function lineStream(answers: AsyncGenerator<readonly unknown[]>): ReadableStream<Uint8Array<ArrayBuffer>> {
  const encoder = new TextEncoder();
  return new ReadableStream(
    {
      async pull(controller) {
        const { done, value } = await answers.next();
        if (done) controller.close();
        else controller.enqueue(encoder.encode(value.map((answer) => `${JSON.stringify(answer)}\n`).join("")));
      },
      async cancel() {
        await answers.return(undefined);
      },
    },
    { highWaterMark: 0 },
  );
}
