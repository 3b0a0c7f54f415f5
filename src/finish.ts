/**
 * Recording how leases ended. Outcomes are collected while the previous write is under way; each is kept until the
 * database has answered for it, whatever happens to the database meanwhile. What the answers mean: `accepted`, it is
 * recorded, with its follow-ups; `busy`, somebody has the row locked, so it goes into a later batch; `missing`, this
 * lease has no say any more, and `confirm` tells whether it was itself the one that settled it (a reply was lost).
 */
import { batchJson } from "./batch.ts";
import { createBatcher } from "./batcher.ts";
import type { Clock } from "./clock.ts";
import { type Database, isPoison, repeatDelayMs } from "./database.ts";
import type { Queryable } from "./driver.ts";
import type { EncodedCommand } from "./encode-command.ts";
import type { EncodedEvent } from "./encode-event.ts";
import type { ErrorRecord } from "./failure.ts";
import type { Due, Hints } from "./hints.ts";
import { utf8Bytes } from "./json.ts";
import { leaseKey } from "./lease.ts";
import { maxBatchBytes, maxBatchCommands } from "./limits.ts";
import type { Observer, Verdict } from "./observation.ts";
import { createPauses } from "./wakeup.ts";

/** How a lease ended, with what came of it. */
export interface Outcome {
  readonly id: string;
  readonly fence: number;
  readonly verdict: Verdict;
  /** JSON. */
  readonly output?: string | undefined;
  /** What the trail keeps of this lease. */
  readonly error?: ErrorRecord | undefined;
  /** After how long it is available again, for verdicts that are not final. */
  readonly delayMs?: number | undefined;
  /** The same as a time, ISO 8601. */
  readonly until?: string | undefined;
  readonly followUps?: readonly EncodedCommand[] | undefined;
  readonly events?: readonly EncodedEvent[] | undefined;
  /** A success was recorded within a transaction of the handler's own; this is what it came to if that was rolled back. */
  readonly within?: boolean | undefined;
}

export interface Finisher {
  /**
   * Resolves when it is known what the database made of the outcome: `repeated` where this lease had settled the
   * command before. Never rejects.
   */
  finish(outcome: Outcome): Promise<"accepted" | "repeated" | "lost">;
  /**
   * Records an outcome within a transaction of the caller's, and hints once that has committed. Asks again while the row
   * is busy (a heartbeat holds it), until `until`.
   */
  finishWithin(db: Queryable, outcome: Outcome, until: number): Promise<"accepted" | "lost">;
  /** How many outcomes are not answered for. */
  readonly size: number;
  /** Gives up: what is not recorded by now is left to the leases' ends. */
  abandon(): void;
}

export interface FinisherOptions {
  readonly database: Database;
  readonly worker: string;
  readonly queues: readonly string[];
  readonly clock: Clock;
  readonly hints: Hints;
  readonly report: Observer;
  /** What becomes of an outcome that the database refuses because of what is in it: a failed attempt, without it. */
  readonly refused: (outcome: Outcome) => Outcome;
}

/** What became of an outcome. */
interface OutcomeRow {
  readonly id: string;
  readonly fence: number;
  readonly result: Result | "missing";
  readonly awaited: boolean;
}

/** From when something is due there that was not before. */
interface DueRow extends Due {
  readonly id: null;
}

type FinishRow = OutcomeRow | DueRow;

interface Within {
  readonly transaction_id: string;
}

type Item = { readonly outcome: Outcome; readonly json: string };
type Result = "accepted" | "busy" | "repeated" | "lost";

export function createFinisher(options: FinisherOptions): Finisher {
  const { database, worker, clock, hints, report } = options;
  let size = 0;
  let abandoned = false;
  const pauses = createPauses(clock);

  const batcher = createBatcher<Item, Result>({
    write,
    maxCount: maxBatchCommands,
    maxBytes: maxBatchBytes,
    bytesOf: (item) => utf8Bytes(item.json),
    // The next batch is read by the server while this one is written: a drain takes a fifth less time.
    flights: 2,
  });

  /** Everything but poison is the database's trouble, a full disk among it: tried again until it is over. */
  async function persist<Row>(
    statement: "finish" | "finishPublishing" | "confirm",
    params: readonly string[],
  ): Promise<Row[]> {
    for (let attempt = 1; ; attempt++) {
      try {
        return await database.run<Row>(statement, params, { deadlineMs: 15_000 });
      } catch (error) {
        if (isPoison(error) || abandoned) throw error;
        report({ type: "database_trouble", operation: statement, error, attempt });
        await pauses.pause(repeatDelayMs(clock, attempt, 5_000));
        if (abandoned) throw error;
      }
    }
  }

  async function write(items: readonly Item[]): Promise<Result[]> {
    // Of two statements the plain one, wherever it will do: it is the hot path.
    const statement = items.some(({ outcome }) => outcome.events?.length) ? "finishPublishing" : "finish";
    const rows = await persist<FinishRow>(statement, [worker, `[${items.map((item) => item.json).join(",")}]`]);
    // Told by id and fence: one batch may name a command twice. What is not named is accepted.
    const results = new Map<string, Result | "missing">();
    const dues: Due[] = [];
    for (const row of rows) {
      if (row.id === null) dues.push(row);
      else if (row.result === "accepted") hints.finished(row.id);
      else results.set(leaseKey(row), row.result);
    }
    hints.due(dues);
    if (results.size === 0) return items.map(() => "accepted");
    const missing = items.filter(({ outcome }) => results.get(leaseKey(outcome)) === "missing");
    if (missing.length > 0) {
      const leases = missing.map(({ outcome }) => ({ id: outcome.id, fence: outcome.fence }));
      for (const { outcome } of missing) results.set(leaseKey(outcome), "lost");
      for (const row of await persist<OutcomeRow>("confirm", [worker, JSON.stringify(leases)])) {
        results.set(leaseKey(row), row.result);
      }
    }
    return items.map(({ outcome }) => (results.get(leaseKey(outcome)) ?? "accepted") as Result);
  }

  async function finish(outcome: Outcome): Promise<"accepted" | "repeated" | "lost"> {
    size++;
    try {
      let item = itemOf(outcome);
      for (let attempt = 1; !abandoned; attempt++) {
        let result: Result;
        try {
          result = await batcher.add(item);
        } catch (error) {
          if (!isPoison(error)) return "lost";
          if (item.outcome !== outcome) throw error;
          report({ type: "database_trouble", operation: "finish", error, attempt: 1 });
          item = itemOf(options.refused(outcome));
          continue;
        }
        if (result === "accepted" || result === "lost") return result;
        if (result === "repeated") {
          const { id, within, followUps = [] } = item.outcome;
          // The reply that was lost would have said who waits, and what became due.
          hints.finished(id);
          // Not of one that was recorded in the handler's own transaction: that hinted at its commit.
          if (!within) hints.wake([...new Set([...options.queues, ...followUps.map(({ queue }) => queue)])]);
          return "repeated";
        }
        await pauses.pause(repeatDelayMs(clock, Math.min(attempt, 3), 250));
      }
      return "lost";
    } catch (error) {
      // Not even what is said in its place: the lease ends without a word, and is counted as a loss.
      report({ type: "internal_error", operation: "finish", error });
      return "lost";
    } finally {
      size--;
    }
  }

  return {
    get size() {
      return size;
    },
    abandon() {
      abandoned = true;
      pauses.end();
    },
    async finishWithin(db, outcome, until) {
      const params = [worker, `[${outcomeJson(outcome)}]`];
      for (let attempt = 1; clock.now() < until && !abandoned; attempt++) {
        const deadlineMs = until - clock.now();
        const rows = await database.run<FinishRow & Within>("finishWithin", params, { db, deadlineMs });
        const own = rows.find((row) => row.id !== null);
        if (own?.result === "accepted") {
          hints.dueAfter(
            own.transaction_id,
            rows.filter((row) => row.id === null),
          );
          return "accepted";
        }
        if (own?.result !== "busy") return "lost";
        await pauses.pause(repeatDelayMs(clock, Math.min(attempt, 2), 50));
      }
      return "lost";
    },
    finish,
  };
}

const itemOf = (outcome: Outcome): Item => ({ outcome, json: outcomeJson(outcome) });

/** Pieced together from texts: an output, and the follow-ups, are JSON already. */
function outcomeJson(outcome: Outcome): string {
  const { id, fence, verdict, output, error, delayMs, until, followUps, events } = outcome;
  let json = `{"id":"${id}","fence":${fence},"verdict":"${verdict}"`;
  // In a row of json_to_recordset JSON's null would be no output at all.
  if (output !== undefined) json += output === "null" ? ',"null_output":true' : `,"output":${output}`;
  if (error !== undefined) json += `,"error":${JSON.stringify(error)}`;
  if (delayMs !== undefined) json += `,"delay_ms":${Math.max(0, Math.round(delayMs))}`;
  if (until !== undefined) json += `,"until":"${until}"`;
  if (followUps !== undefined && followUps.length > 0) json += `,"follow_ups":${batchJson(followUps)}`;
  if (events !== undefined && events.length > 0) json += `,"events":${batchJson(events)}`;
  return `${json}}`;
}
