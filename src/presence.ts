/** How a worker says that it is there. To be seen is a favour to people: where it fails, the worker works on. */
import type { Database, Statement } from "./database.ts";
import type { Handler } from "./handler.ts";
import type { Observer } from "./observation.ts";

export interface Presence {
  /** Says that the worker is there, with what it runs now. Nothing is said any more after `leave()`. */
  announce(): Promise<void>;
  /** Says that it has stopped, where it has ever said that it is there; a tick has not. */
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
  readonly handlers: readonly Handler[];
  /**
   * How long it may be silent at most, in ms. Undefined for a tick: all of an instance that serve the same queues are
   * one worker to the fleet, which does not stop, and is lost when the next one is long overdue.
   */
  readonly silenceMs: number | undefined;
  readonly running: () => number;
  readonly report: Observer;
}

/** A timer may be late, and a statement slow. */
const patienceMs = 30_000;
/** Nothing waits for longer: not the start, and not the stop. */
const deadlineMs = 5_000;

export function createPresence(options: PresenceOptions): Presence {
  const { database, worker, instance, runtime, host, queues, concurrency, silenceMs, running, report } = options;
  const handlers = options.handlers.map(({ contract: { name, version, upgrade } }) => ({
    ...{ name, version },
    upgrades: upgrade !== undefined,
  }));
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
      const row = { instance, runtime, host, queues, concurrency, handlers };
      if (silenceMs === undefined) {
        // Names of queues are free of spaces.
        const id = `${instance ?? "tick"}:${queues.toSorted().join(" ")}`;
        announcing = say("registerTick", JSON.stringify({ ...row, id }));
      } else {
        const own = { id: worker, running: running(), lost_after_ms: silenceMs + patienceMs };
        announcing = say("registerWorker", JSON.stringify({ ...row, ...own }));
      }
      await announcing;
    },
    async leave() {
      left = true;
      if (announcing === undefined) return;
      // In the order of saying: what comes late would be there again.
      await announcing;
      if (silenceMs !== undefined) await say("stopWorker", worker);
    },
  };
}
