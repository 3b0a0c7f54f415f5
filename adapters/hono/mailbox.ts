/** What one client of a feed has still to get: bounded, and gone with its client. */

/** The client takes too little: it is let go, and may come back. */
export class SlowClientError extends Error {
  override readonly name = "SlowClientError";
}

export interface Mailbox<Item> {
  /** Keeps something until it is taken; more than there may be waiting is the end. */
  put(item: Item, size: number): void;
  /** Ends it: whoever takes next gets the error. */
  fail(error: unknown): void;
  readonly taken: AsyncIterator<Item>;
}

/** What one client may lag behind, in commands or events: as much as one read may find. */
const maxSize = 10_000;

/** `left` is called once, when it has failed; `signal` is one way to fail. */
export function createMailbox<Item>(signal: AbortSignal, left: () => void): Mailbox<Item> {
  let waiting: { readonly item: Item; readonly size: number }[] = [];
  let size = 0;
  let failure: { readonly error: unknown } | undefined;
  let ready = (): void => {};

  const fail = (error: unknown): void => {
    if (failure) return;
    failure = { error };
    waiting = [];
    left();
    ready();
  };
  signal.addEventListener("abort", () => fail(signal.reason), { once: true });

  return {
    put(item, own) {
      if (failure) return;
      size += own;
      waiting.push({ item, size: own });
      if (size > maxSize) fail(new SlowClientError("Cannot keep up: the client takes too little"));
      ready();
    },
    fail,
    taken: {
      async next() {
        while (true) {
          if (failure) throw failure.error;
          const next = waiting.shift();
          if (next) {
            size -= next.size;
            return { done: false, value: next.item };
          }
          await new Promise<void>((resolve) => {
            ready = resolve;
          });
        }
      },
    },
  };
}
