/**
 * Lists of what is pushed or published, on their way into statements. What one call gives stays together, up to the
 * limits of a batch. Concurrent calls coalesce while a write is under way, but for two kinds that go alone: those within
 * a caller's transaction, and those with an id that the caller chose, since a twin in somebody's open transaction makes
 * the whole statement wait for it.
 */
import { createBatcher } from "./batcher.ts";
import type { Queryable } from "./driver.ts";
import { maxBatchBytes, maxBatchCommands } from "./limits.ts";

/** A command or an event as a batch takes it. */
export interface Encoded {
  /** One JSON object. */
  readonly json: string;
  /** The size of `json` as UTF-8, or some more. */
  readonly bytes: number;
  readonly chosenId: boolean;
}

export interface Sending<Item> {
  /** Sends a batch; `chosen` says that the caller chose an id in it, so that it may be a repeat. */
  send(items: readonly Item[], chosen: boolean): Promise<void>;
  /** Sends a batch within the caller's transaction. */
  sendWithin(db: Queryable, items: readonly Item[]): Promise<void>;
}

/** Makes what sends lists of any length: it resolves when all of a list is sent. */
export function createBatches<Item extends Encoded>({
  send,
  sendWithin,
}: Sending<Item>): (items: readonly Item[], db?: Queryable) => Promise<void> {
  const batcher = createBatcher<readonly Item[], undefined>({
    async write(lists) {
      await send(lists.flat(), false);
      return lists.map(() => undefined);
    },
    countOf: (items) => items.length,
    maxCount: maxBatchCommands,
    maxBytes: maxBatchBytes,
    bytesOf: (items) => items.reduce((bytes, item) => bytes + item.bytes, 0),
  });
  return async (items, db) => {
    if (db) {
      for (const chunk of chunks(items)) await sendWithin(db, chunk);
    } else if (items.some((item) => item.chosenId)) {
      for (const chunk of chunks(items)) await send(chunk, true);
    } else {
      await Promise.all([...chunks(items)].map((chunk) => batcher.add(chunk)));
    }
  };
}

/** Batches within the limits of count and bytes. */
function* chunks<Item extends Encoded>(items: readonly Item[]): Generator<Item[]> {
  let chunk: Item[] = [];
  let bytes = 0;
  for (const item of items) {
    if (chunk.length > 0 && (chunk.length >= maxBatchCommands || bytes + item.bytes > maxBatchBytes)) {
      yield chunk;
      chunk = [];
      bytes = 0;
    }
    chunk.push(item);
    bytes += item.bytes;
  }
  if (chunk.length > 0) yield chunk;
}

export function batchJson(items: readonly Encoded[]): string {
  return `[${items.map((item) => item.json).join(",")}]`;
}

/** The id that a statement was refused for, as it stood for something else already. */
export function conflictingId(error: unknown): string | undefined {
  const { detail, message } = error as { detail?: unknown; message?: unknown };
  return typeof detail === "string" ? detail : /[0-9a-f-]{36}/.exec(String(message))?.[0];
}

/** Encodes a list, or throws before any of it is sent. Most schemas answer at once, and then nothing is waited for. */
export async function encodeAll<Item, Result>(
  list: readonly Item[],
  encode: (item: Item) => Result | Promise<Result>,
): Promise<Result[]> {
  const encoding: (Result | Promise<Result>)[] = [];
  try {
    for (const item of list) encoding.push(encode(item));
  } catch (error) {
    // Those that answer later may be refused, too, and nobody waits for them any more.
    for (const earlier of encoding) if (earlier instanceof Promise) earlier.catch(() => {});
    throw error;
  }
  const isLate = encoding.some((one) => one instanceof Promise);
  return isLate ? await Promise.all(encoding) : (encoding as Result[]);
}
