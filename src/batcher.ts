/**
 * Writes that come while a write is under way are collected and go out together with the next one: no timer, no added
 * latency, a batch of one when idle, and batches that grow with load by themselves.
 *
 * A batch is led by its first item, in that item's own asynchronous context: an adapter that has to know from where a
 * statement was sent (PGlite, inside an open transaction) can see it. A batch that the database refuses because of what
 * is in it is split in halves until the item is found that is to blame.
 */
import { isLeadersFault, isPoison } from "./database.ts";

export interface Batcher<Item, Result> {
  /** Resolves with the item's result once the batch that it went with is written. */
  add(item: Item): Promise<Result>;
  /** How many items wait or are being written. */
  readonly size: number;
}

export interface BatcherOptions<Item, Result> {
  /** Writes a batch, and answers a result for each of its items in their order. */
  write(items: readonly Item[]): Promise<readonly Result[]>;
  /** Most that one batch may count; an item that counts more goes alone. */
  maxCount: number;
  /** @default 1 for each */
  countOf?(item: Item): number;
  /** Most bytes in one batch; an item that is larger goes alone. */
  maxBytes: number;
  bytesOf(item: Item): number;
  /** How many batches may be under way at once. @default 1 */
  flights?: number;
}

const again = Symbol("again");

interface Entry<Item, Result> {
  readonly item: Item;
  resolve(result: Result): void;
  reject(error: unknown): void;
  /** Sends it once more, in a batch that it leads itself or gets on. */
  again(): void;
}

export function createBatcher<Item, Result>(options: BatcherOptions<Item, Result>): Batcher<Item, Result> {
  type Batch = { entries: Entry<Item, Result>[]; count: number; bytes: number };
  let open: Batch | undefined;
  let size = 0;
  let free = options.flights ?? 1;
  const turns: (() => void)[] = [];

  function board(item: Item): Promise<Result | typeof again> {
    return new Promise((resolve, reject) => {
      const bytes = options.bytesOf(item);
      const count = options.countOf?.(item) ?? 1;
      const entry = { item, resolve, reject, again: () => resolve(again) };
      size++;
      if (!open || open.count + count > options.maxCount || open.bytes + bytes > options.maxBytes) {
        open = { entries: [entry], count, bytes };
        void lead(open);
      } else {
        open.entries.push(entry);
        open.count += count;
        open.bytes += bytes;
      }
    });
  }

  async function lead(batch: Batch): Promise<void> {
    // Whoever adds in the same moment still gets on.
    await Promise.resolve();
    if (free === 0) await new Promise<void>((resolve) => turns.push(resolve));
    else free--;
    if (open === batch) open = undefined;
    await write(batch.entries);
    size -= batch.entries.length;
    const next = turns.shift();
    if (next) next();
    else free++;
  }

  async function write(entries: readonly Entry<Item, Result>[]): Promise<void> {
    try {
      const results = await options.write(entries.map((entry) => entry.item));
      entries.forEach((entry, place) => entry.resolve(results[place] as Result));
    } catch (error) {
      if (entries.length > 1 && isPoison(error)) {
        const half = entries.length >> 1;
        await write(entries.slice(0, half));
        await write(entries.slice(half));
      } else if (isLeadersFault(error)) {
        entries[0]?.reject(error);
        for (const entry of entries.slice(1)) entry.again();
      } else {
        for (const entry of entries) entry.reject(error);
      }
    }
  }

  return {
    get size() {
      return size;
    },
    async add(item) {
      for (;;) {
        const result = await board(item);
        if (result !== again) return result;
      }
    },
  };
}
