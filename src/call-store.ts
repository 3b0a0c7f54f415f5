/**
 * Replay protection of what is signed: an id stands for one piece of work, and whatever comes again under it is answered
 * as the first time. A signature is good for some minutes, so ids are kept for longer than that.
 */
import type { Awaitable } from "./handler.ts";
import { toleranceSeconds } from "./signature.ts";

/** Where the ids of calls are remembered, with their answers: shared by the instances of an endpoint, or by one. */
export interface CallStore {
  /**
   * Remembers an id for `forMs`. Answers `undefined` where it was unknown, and of two at once to one alone; else what is
   * known of it: its answer, or none where that is not there yet, or not any more.
   */
  begin(id: string, forMs: number): Awaitable<{ readonly answer: string | undefined } | undefined>;
  /** Keeps its answer. */
  end(id: string, answer: string, forMs: number): Awaitable<void>;
  /** Forgets an id whose work failed and may be done again: a signed tick. Where it is missing or fails, a repeat is refused. */
  forget?(id: string): Awaitable<void>;
}

/** Runs `work` once for an id, and answers what it answered: rejects as `refuse` says where that is not known. */
export type Once = (id: string, work: () => Promise<string>) => Promise<string>;

/** As long as a timestamp may be good: 300 s either way. */
const rememberMs = 2 * toleranceSeconds * 1000;
const maxRemembered = 100_000;
const maxRememberedBytes = 64_000_000;

/**
 * @param refuse the error where work is under way elsewhere, has failed, or its answer is gone.
 * @param repeatsFailed whether work that has failed may be done again under its id.
 */
export function createOnce(store: CallStore, refuse: () => Error, repeatsFailed: boolean = false): Once {
  /** What is under way here: whatever comes again waits for the same answer. */
  const open = new Map<string, Promise<string>>();
  return async (id, work) => {
    const running = open.get(id);
    if (running) return await running;
    const first = (async () => {
      const known = await store.begin(id, rememberMs);
      if (known?.answer !== undefined) return known.answer;
      if (known) throw refuse();
      const answer = await work().catch(async (error: unknown) => {
        try {
          if (repeatsFailed) await store.forget?.(id);
        } catch {
          // What the work failed with is told, and not this.
        }
        throw error;
      });
      await store.end(id, answer, rememberMs);
      return answer;
    })();
    open.set(id, first);
    try {
      return await first;
    } finally {
      open.delete(id);
    }
  };
}

/** Remembers in this instance's memory: the oldest are forgotten first, of what is too much. */
export function createMemory(now: () => number): CallStore {
  const entries = new Map<string, { readonly until: number; answer: string | undefined }>();
  let bytes = 0;

  /** Ids with their time over go, and answers of the oldest, whose ids are kept: they must not run twice. */
  function tidy(): void {
    for (const [id, entry] of entries) {
      if (entry.until > now() && entries.size <= maxRemembered) break;
      bytes -= entry.answer?.length ?? 0;
      entries.delete(id);
    }
    for (const entry of entries.values()) {
      if (bytes <= maxRememberedBytes) break;
      bytes -= entry.answer?.length ?? 0;
      entry.answer = undefined;
    }
  }

  return {
    begin(id, forMs) {
      tidy();
      const entry = entries.get(id);
      if (entry) return { answer: entry.answer };
      entries.set(id, { until: now() + forMs, answer: undefined });
      return undefined;
    },
    end(id, answer) {
      const entry = entries.get(id);
      if (!entry) return;
      entry.answer = answer;
      bytes += answer.length;
      tidy();
    },
    forget(id) {
      bytes -= entries.get(id)?.answer?.length ?? 0;
      entries.delete(id);
    },
  };
}
