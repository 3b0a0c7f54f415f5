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

const headers = {
  "Content-Type": "text/event-stream",
  "Cache-Control": "no-cache, no-store",
  // nginx would keep it until a buffer is full.
  "X-Accel-Buffering": "no",
};

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
 * Opens a stream and answers with it, until its source ends or its client has gone, which `signal` tells the source;
 * 204 where there is no source.
 *
 * @throws Problem where there are as many streams as there may be; whatever `open` throws.
 */
export async function follow(
  c: Context,
  streams: OpenStreams,
  open: (signal: AbortSignal) => Promise<AsyncIterator<StreamEvent> | undefined>,
): Promise<Response> {
  const leave = streams.open();
  const controller = new AbortController();
  const close = (): void => {
    leave();
    controller.abort(new Error("Its client has gone"));
  };
  try {
    const source = await open(controller.signal);
    if (source) return eventStream(c, source, close);
    close();
    return c.body(null, 204);
  } catch (error) {
    close();
    throw error;
  }
}

/**
 * Answers with what `source` gives, until it ends. `close` is called once, when it has ended, failed, or the client has
 * gone; a source that fails cuts the stream off, and the client comes back. HEAD is answered without any of it.
 */
export function eventStream(c: Context, source: AsyncIterator<StreamEvent>, close: () => void): Response {
  const encoder = new TextEncoder();
  let stall: ReturnType<typeof setTimeout> | undefined;
  let isOver = false;
  let isFirst = true;
  // The source is asked once for each event, and what it answers is kept here: with a race for each ping, all of them
  // would stay on a promise that is pending for as long as nothing happens.
  let isAsked = false;
  let answer: IteratorResult<StreamEvent> | { readonly error: unknown } | undefined;
  let wake = (): void => {};

  const end = (): void => {
    if (isOver) return;
    isOver = true;
    clearTimeout(stall);
    close();
    void source.return?.()?.catch(() => {});
  };
  const answered = (given: NonNullable<typeof answer>): void => {
    answer = given;
    wake();
  };

  async function next(): Promise<typeof answer> {
    if (!isAsked) {
      isAsked = true;
      source.next().then(answered, (error: unknown) => answered({ error }));
    }
    let timer: ReturnType<typeof setTimeout> | undefined;
    await new Promise<void>((resolve) => {
      wake = resolve;
      timer = setTimeout(resolve, isFirst ? firstPingMs : pingMs);
      isFirst = false;
      if (answer) resolve();
    });
    clearTimeout(timer);
    const taken = answer;
    answer = undefined;
    if (taken) isAsked = false;
    return taken;
  }

  if (c.req.method === "HEAD") {
    // Hono drops the body of what it answers to HEAD, neither read nor cancelled.
    end();
    return c.body(null, 200, headers);
  }
  const body = new ReadableStream<Uint8Array<ArrayBuffer>>(
    {
      start: watch,
      async pull(controller) {
        clearTimeout(stall);
        try {
          const result = await next();
          if (isOver) return;
          if (result === undefined) controller.enqueue(encoder.encode(": ping\n\n"));
          else if ("error" in result) throw result.error;
          else if (result.done) {
            end();
            controller.close();
            return;
          } else controller.enqueue(encoder.encode(written(result.value)));
          watch(controller);
        } catch (error) {
          if (isOver) return;
          end();
          controller.error(error);
        }
      },
      cancel() {
        end();
        wake();
      },
    },
    { highWaterMark: 0 },
  );
  return c.body(body, 200, headers);

  /** From when there is something for the client, or it may take the first. */
  function watch(controller: ReadableStreamDefaultController<Uint8Array<ArrayBuffer>>): void {
    stall = setTimeout(() => {
      end();
      controller.error(new Error("Cannot go on with an event stream: its client takes nothing"));
    }, stallMs);
  }
}

/** JSON has no line breaks of its own, so data is one line. */
function written({ event, data, id }: StreamEvent): string {
  return `event: ${event}\n${id === undefined ? "" : `id: ${id}\n`}data: ${JSON.stringify(data)}\n\n`;
}
