/**
 * Waiting for the end of commands. A waiter sets a flag on the command; the finish that sees it is followed by a
 * notification, and one read gets the outcome. The row's lock decides: either the finish sees the flag, or the waiter
 * sees history. However many wait, they share their statements, and the backstop is one statement for all of them.
 */
import { createBatcher } from "./batcher.ts";
import type { Clock, Timer } from "./clock.ts";
import { type Database, isPassing, repeatDelayMs } from "./database.ts";
import type { Hints } from "./hints.ts";
import { type Keys, maxBatchBytes, maxBatchCommands, maxTimeoutMs, requireMs } from "./limits.ts";
import type { Observer } from "./observation.ts";
import { StoppedError, UnknownCommandError, type WaitOptions, WaitTimeoutError } from "./wait-errors.ts";
import { createPauses } from "./wakeup.ts";

export const waitKeys: Keys<WaitOptions> = { timeoutMs: true, signal: true };

/** A command that has ended, as the database answers it. */
export interface EndedRow {
  readonly id: string;
  readonly name: string;
  readonly version: number;
  readonly status: string;
  readonly output: string | null;
  readonly trail: string | null;
  readonly finished_at: string;
}

type LookRow = (EndedRow & { readonly result: "finished" }) | { readonly id: string; readonly result: string };

export interface Waiter {
  wait(id: string, options?: WaitOptions): Promise<EndedRow>;
  close(): void;
}

interface Waiting {
  resolve(row: EndedRow): void;
  reject(error: unknown): void;
}

/** Without notifications, how long after a look the next one is: doubling, from and to. */
const firstPollMs = 20;
const slowestPollMs = 1_000;
/** With notifications, the backstop. */
const backstopMs = 5_000;

export function createWaiter(database: Database, clock: Clock, hints: Hints, report: Observer): Waiter {
  const waiting = new Map<string, Set<Waiting>>();
  const pauses = createPauses(clock);
  let closed = false;
  let timer: Timer | undefined;
  let pollMs = firstPollMs;
  let stopReceiving: (() => void) | undefined;

  const looks = createBatcher<string, LookRow | undefined>({
    async write(ids) {
      for (let attempt = 1; ; attempt++) {
        try {
          const rows = await database.run<LookRow>("waitFor", [JSON.stringify(ids)]);
          const byId = new Map(rows.map((row) => [row.id, row]));
          return ids.map((id) => byId.get(id));
        } catch (error) {
          if (!isPassing(error) || closed) throw error;
          report({ type: "database_trouble", operation: "waitFor", error, attempt });
          await pauses.pause(repeatDelayMs(clock, attempt, 2_000));
          if (closed) throw error;
        }
      }
    },
    maxCount: maxBatchCommands,
    maxBytes: maxBatchBytes,
    bytesOf: (id) => id.length,
    // A look may meet a finish that is under way; a second batch need not wait for it.
    flights: 2,
  });

  function end(id: string, call: (waiter: Waiting) => void): void {
    const waiters = waiting.get(id);
    waiting.delete(id);
    for (const waiter of waiters ?? []) call(waiter);
  }

  /** Ids that are being looked at, and whether that is to be done once more: something came meanwhile. */
  const looking = new Map<string, boolean>();

  async function look(id: string): Promise<void> {
    if (looking.has(id)) return void looking.set(id, true);
    do {
      looking.set(id, false);
      await lookOnce(id);
    } while (looking.get(id) && waiting.has(id));
    looking.delete(id);
  }

  async function lookOnce(id: string): Promise<void> {
    try {
      for (let attempt = 1; waiting.has(id) && !closed; attempt++) {
        const row = await looks.add(id);
        if (row?.result === "finished") return end(id, (waiter) => waiter.resolve(row as EndedRow));
        if (row?.result === "waiting") return;
        if (row?.result !== "busy") return end(id, (waiter) => waiter.reject(new UnknownCommandError(id)));
        await pauses.pause(repeatDelayMs(clock, Math.min(attempt, 4), 250));
      }
    } catch (error) {
      end(id, (waiter) => waiter.reject(error));
    }
  }

  function poll(): void {
    if (timer || closed || waiting.size === 0) return;
    const { proven } = hints;
    timer = clock.after(proven ? backstopMs : pollMs, () => {
      timer = undefined;
      pollMs = proven ? firstPollMs : Math.min(pollMs * 2, slowestPollMs);
      if (proven) hints.probe();
      for (const id of waiting.keys()) void look(id);
      poll();
    });
  }

  function receive(): void {
    stopReceiving ??= hints.receive({
      finished: (id) => {
        if (waiting.has(id)) void look(id);
      },
      reconnected: () => {
        for (const id of waiting.keys()) void look(id);
      },
    });
  }

  return {
    wait(id, { timeoutMs, signal } = {}) {
      return new Promise<EndedRow>((resolve, reject) => {
        if (timeoutMs !== undefined) requireMs(`Cannot wait for command ${id}`, "timeoutMs", timeoutMs, maxTimeoutMs);
        if (closed) return reject(new StoppedError(`Cannot wait for command ${id}: the orchestrator is stopped`));
        if (signal?.aborted) return reject(signal.reason);
        const abort = () => giveUp(signal?.reason);
        const expiry =
          timeoutMs === undefined
            ? undefined
            : clock.after(timeoutMs, () => giveUp(new WaitTimeoutError(id, timeoutMs)));
        const tidy = () => {
          expiry?.cancel();
          signal?.removeEventListener("abort", abort);
        };
        const waiter: Waiting = {
          resolve: (row) => {
            tidy();
            resolve(row);
          },
          reject: (error) => {
            tidy();
            reject(error);
          },
        };
        function giveUp(error: unknown): void {
          const waiters = waiting.get(id);
          waiters?.delete(waiter);
          if (waiters?.size === 0) waiting.delete(id);
          waiter.reject(error);
        }
        signal?.addEventListener("abort", abort, { once: true });
        receive();
        const waiters = waiting.get(id);
        if (waiters) waiters.add(waiter);
        else waiting.set(id, new Set([waiter]));
        void look(id);
        if (!hints.proven) {
          timer?.cancel();
          timer = undefined;
          pollMs = firstPollMs;
        }
        poll();
      });
    },
    close() {
      closed = true;
      timer?.cancel();
      pauses.end();
      stopReceiving?.();
      for (const id of [...waiting.keys()]) {
        end(id, (waiter) =>
          waiter.reject(new StoppedError(`Cannot wait for command ${id}: the orchestrator was stopped`)),
        );
      }
    },
  };
}
