/** How a worker says that it is there. To be seen is a favour to people: where it fails, the worker works on. */
import type { Database, Statement } from "./database.ts";
import type { Observer } from "./observation.ts";

export interface Presence {
  /** Says that the worker is there, with what it runs now. Nothing is said any more after `leave()`. */
  announce(): Promise<void>;
  /** Says that it has stopped, where it has ever said that it is there. */
  leave(): Promise<void>;
}

export interface PresenceOptions {
  readonly database: Database;
  readonly worker: string;
  readonly instance: string | undefined;
  readonly runtime: string | undefined;
  readonly host: string | undefined;
  readonly queues: readonly string[];
  readonly concurrency: number;
  /** How long it may be silent at most, in ms. */
  readonly silenceMs: number;
  readonly running: () => number;
  readonly report: Observer;
}

/** A timer may be late, and a statement slow. */
const patienceMs = 30_000;
/** Nothing waits for longer: not the start, and not the stop. */
const deadlineMs = 5_000;

export function createPresence(options: PresenceOptions): Presence {
  const { database, worker, instance, runtime, host, queues, concurrency, silenceMs, running, report } = options;
  let announcing: Promise<void> | undefined;
  let left = false;

  async function say(statement: Statement, param: string): Promise<void> {
    try {
      await database.run(statement, [param], { deadlineMs });
    } catch (error) {
      report({ type: "database_trouble", operation: statement, error, attempt: 1 });
    }
  }

  return {
    async announce() {
      if (left) return;
      const row = { id: worker, instance, runtime, host, queues, concurrency, running: running() };
      announcing = say("registerWorker", JSON.stringify({ ...row, lost_after_ms: silenceMs + patienceMs }));
      await announcing;
    },
    async leave() {
      left = true;
      if (announcing === undefined) return;
      // In the order of saying: what comes late would be there again.
      await announcing;
      await say("stopWorker", worker);
    },
  };
}
