/**
 * Server-Sent Events. What is sent next is asked for when the client has taken what came before, so nothing piles up
 * here: the source coalesces, or says that its client is too slow. A comment every 8 s keeps proxies and runtimes
 * (Bun closes what is silent for 10 s) from closing it, and finds out who has gone without a word.
 */
import type { Context } from "hono";
import { later } from "./problem.ts";

export interface StreamEvent {
  readonly event: string;
  readonly data: unknown;
  /** What the client sends as `Last-Event-ID` when it comes back. */
  readonly id?: string | undefined;
}

const pingMs = 8_000;
/** What is silent from its beginning gets its first one sooner: Bun sends no headers before there is something to send. */
const firstPingMs = 250;
/** Whoever has taken nothing for as long as this, pings included, is dropped. */
const stallMs = 60_000;

/** How many streams are open at the same time, of one router. */
export class OpenStreams {
  readonly #max: number;
  #count = 0;

  constructor(max: number) {
    this.#max = max;
  }

  get count(): number {
    return this.#count;
  }

  /** @throws Problem where there are as many as there may be. */
  open(): () => void {
    if (this.#count >= this.#max) throw later(`There are ${this.#max} streams open, which is as many as may be`, 10);
    this.#count += 1;
    let open = true;
    return () => {
      if (open) this.#count -= 1;
      open = false;
    };
  }
}

/**
 * Answers with what `source` gives, until it ends. `close` is called once, when it has ended, failed, or the client has
 * gone; a source that fails cuts the stream off, and the client comes back.
 */
export function eventStream(c: Context, source: AsyncIterator<StreamEvent>, close: () => void): Response {
  const encoder = new TextEncoder();
  let next: Promise<IteratorResult<StreamEvent>> | undefined;
  let stall: ReturnType<typeof setTimeout> | undefined;
  let isOver = false;
  let isFirst = true;

  const end = (): void => {
    if (isOver) return;
    isOver = true;
    clearTimeout(stall);
    close();
    void source.return?.()?.catch(() => {});
  };
  // Some platforms tell by this alone that a client has gone: a body that is given up there is just not pulled again.
  const { signal } = c.req.raw;
  if (signal?.aborted) end();
  else signal?.addEventListener("abort", end, { once: true });

  const body = new ReadableStream<Uint8Array<ArrayBuffer>>(
    {
      async pull(controller) {
        clearTimeout(stall);
        let timer: ReturnType<typeof setTimeout> | undefined;
        try {
          next ??= source.next();
          const ping = new Promise<"ping">((resolve) => {
            timer = setTimeout(() => resolve("ping"), isFirst ? firstPingMs : pingMs);
            isFirst = false;
          });
          const result = await Promise.race([next, ping]);
          if (isOver) return;
          if (result === "ping") controller.enqueue(encoder.encode(": ping\n\n"));
          else if (result.done) {
            end();
            controller.close();
            return;
          } else {
            next = undefined;
            controller.enqueue(encoder.encode(written(result.value)));
          }
          stall = setTimeout(() => {
            end();
            controller.error(new Error("Cannot go on with an event stream: its client takes nothing"));
          }, stallMs);
        } catch (error) {
          if (isOver) return;
          end();
          controller.error(error);
        } finally {
          clearTimeout(timer);
        }
      },
      cancel: end,
    },
    { highWaterMark: 0 },
  );
  return c.body(body, 200, {
    "Content-Type": "text/event-stream",
    "Cache-Control": "no-cache, no-store",
    // nginx would keep it until a buffer is full.
    "X-Accel-Buffering": "no",
  });
}

/** JSON has no line breaks of its own, so data is one line. */
function written({ event, data, id }: StreamEvent): string {
  return `event: ${event}\n${id === undefined ? "" : `id: ${id}\n`}data: ${JSON.stringify(data)}\n\n`;
}
