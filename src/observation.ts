/**
 * The one seam through which the library says what happens in it. It never writes to the console and never throws at
 * somebody who did not ask: what a loop met is reported here, and the loop goes on.
 * Observations carry ids, names, sizes and durations, never inputs or outputs; of metadata the chain's ids alone.
 */
import type { Chain } from "./chain.ts";
import type { ErrorRecord } from "./failure.ts";

/** A command, as observations name it. */
export interface ObservedCommand {
  readonly id: string;
  readonly name: string;
  readonly queue: string;
  readonly fence: number;
  readonly attempt: number;
  /** The chain that it belongs to, read out of its metadata when somebody looks. */
  readonly chain: Chain;
}

/** How a lease ended: a final status, or what became of the attempt. */
export type Verdict =
  | "succeeded"
  | "failed"
  | "cancelled"
  | "timed_out"
  | "not_found"
  | "retry"
  | "snooze"
  | "release"
  | "unknown";

/** Commands of one name and queue, or events of one topic, that an attempt sent with its outcome. */
export interface Sent {
  readonly verb: "push" | "publish" | "append";
  /** The command's name, or the topic. */
  readonly name: string;
  /** Of commands. */
  readonly queue?: string;
  /** Of events that were appended. */
  readonly stream?: string;
  readonly count: number;
}

export type Observation =
  /** A worker's loop runs. */
  | { readonly type: "worker_started"; readonly worker: string; readonly queues: readonly string[] }
  /** A worker ended; nothing of it is left running but handlers that ignore their signal (`stuck`). */
  | { readonly type: "worker_stopped"; readonly worker: string; readonly stuck: number }
  /**
   * A claim was answered: the commands that it leased (none, where there was nothing to do), and how long the statement
   * took.
   */
  | {
      readonly type: "claimed";
      readonly worker: string;
      readonly count: number;
      readonly durationMs: number;
      readonly commands: readonly ObservedCommand[];
    }
  /**
   * An attempt (or a hook that is a command of its own) begins: middleware, the input's schema, the handler. `waitedMs`
   * is how long it was due before it was claimed.
   */
  | ({
      readonly type: "command_started";
      readonly worker: string;
      readonly hook?: string;
      readonly waitedMs: number;
    } & ObservedCommand)
  /**
   * The outcome of a lease is recorded. With `retry`, `error` says what went wrong this time; `delayMs` is after how
   * long a command is due again that goes back into the queue. `sent` is what a success pushed, published and appended,
   * where there was anything.
   */
  | ({
      readonly type: "command_finished";
      readonly worker: string;
      readonly verdict: Verdict;
      readonly durationMs: number;
      readonly delayMs?: number;
      readonly error?: ErrorRecord;
      readonly sent?: readonly Sent[];
    } & ObservedCommand)
  /** Somebody else has the command, or may have it: the handler's signal is aborted and nothing more is written. */
  | ({ readonly type: "lease_lost"; readonly worker: string; readonly reason: "expired" | "taken" } & ObservedCommand)
  /**
   * A claim took a command whose lease had ended without a word of `abandonedBy`, the worker that held it: it was killed,
   * cut off or stood still. One that lives reports `lease_lost` besides. `fence` and `attempt` are those of the new lease.
   */
  | ({ readonly type: "lease_abandoned"; readonly worker: string; readonly abandonedBy: string } & ObservedCommand)
  /** A handler goes on although its attempt is over for `abortGraceMs`: its slot is freed, its result will not count. */
  | ({ readonly type: "handler_stuck"; readonly worker: string } & ObservedCommand)
  /** No handler here knows the name or version; the command was put off. */
  | ({ readonly type: "command_unknown"; readonly worker: string; readonly version: number } & ObservedCommand)
  /** The event loop stood still: heartbeats wait, and leases are lost if it lasts. `commands` ran meanwhile; the first is the likeliest. */
  | {
      readonly type: "event_loop_blocked";
      readonly worker: string;
      readonly blockedMs: number;
      readonly commands: readonly ObservedCommand[];
    }
  /** Leases of a claim whose reply was lost were handed back. */
  | { readonly type: "leases_given_back"; readonly worker: string; readonly count: number }
  /** A statement failed and will be tried again, or its effect is made up for by polling. */
  | { readonly type: "database_trouble"; readonly operation: string; readonly error: unknown; readonly attempt: number }
  /** A statement was not answered within its deadline. */
  | { readonly type: "database_unresponsive"; readonly operation: string; readonly afterMs: number }
  /** Notifications arrive (`proven`) or do not: behind a transaction pooler LISTEN succeeds and nothing comes. Workers poll then. */
  | { readonly type: "listening"; readonly proven: boolean }
  /** A notification that this process had sent to itself arrived, so long after it was to be sent. Every 15 s at most. */
  | { readonly type: "notification_heard"; readonly lagMs: number }
  /** A duty of the fleet was done here, or failed. */
  | { readonly type: "duty_finished"; readonly duty: string; readonly durationMs: number; readonly error?: unknown }
  /** A slot of history takes new rows although it was not emptied in time: rows in it stay for another turn of the ring. */
  | { readonly type: "history_overdue"; readonly slot: number; readonly oldest: string }
  /** The same of events: a reader that is far behind keeps them, or a transaction that holds the slot's lock. */
  | { readonly type: "events_overdue"; readonly slot: number; readonly oldest: string }
  /** A batch of a reader failed, for the `failures`-th time in a row; it is tried again. */
  | {
      readonly type: "reader_failed";
      readonly reader: string;
      readonly generation: number;
      readonly failures: number;
      readonly retryInMs: number;
      readonly error: ErrorRecord;
    }
  /** Another process reads for this reader, or may: the handler's signal is aborted, and its batch is not recorded. */
  | { readonly type: "reader_lease_lost"; readonly reader: string; readonly generation: number }
  /** A rebuilt generation took the place of the one in use, whose tables are no longer written to. */
  | { readonly type: "reader_switched"; readonly reader: string; readonly generation: number }
  /** What a handler said through its logger; without a `worker` where `execute` ran it. */
  | ({
      readonly type: "log";
      readonly worker?: string;
      readonly level: "debug" | "info" | "warn" | "error";
      readonly message: string;
      readonly fields?: Readonly<Record<string, unknown>>;
    } & ObservedCommand)
  /** Something in the library failed that should not have. It went on. */
  | { readonly type: "internal_error"; readonly operation: string; readonly error: unknown };

/** Receives observations. Called synchronously; what it throws is ignored. */
export interface Observer {
  (observation: Observation): void;
  /**
   * Whether it wants observations of this type: what nobody wants is not even made. Where it throws, it does.
   *
   * @default all of them
   */
  wants?(type: Observation["type"]): boolean;
}

/**
 * An observer of these types alone. Beside one that receives all of them, it costs a command nothing.
 *
 * @example
 * const observe = observing(["lease_lost"], ({ name, reason }) => console.error(name, reason));
 * createOrchestrator({ database, handlers, observe });
 */
export function observing<const Type extends Observation["type"]>(
  types: readonly Type[],
  observer: (observation: Extract<Observation, { readonly type: Type }>) => void,
): Observer {
  const wanted: ReadonlySet<string> = new Set(types);
  const own = (observation: Observation): void =>
    observer(observation as Extract<Observation, { readonly type: Type }>);
  return Object.assign(own, { wants: (type: Observation["type"]) => wanted.has(type) });
}

/** Hands each observation to every observer that wants it. */
export interface Observers {
  report(observation: Observation): void;
  /** Whether anybody wants it: what comes with every command is not even made otherwise. */
  wants(type: Observation["type"]): boolean;
  /** Adds an observer; the result takes it away again. */
  add(observer: Observer): () => void;
}

function wants(observer: Observer, type: Observation["type"]): boolean {
  try {
    return observer.wants?.(type) ?? true;
  } catch {
    return true;
  }
}

export function createObservers(): Observers {
  const observers = new Set<{ readonly observer: Observer }>();
  return {
    wants(type) {
      for (const { observer } of observers) if (wants(observer, type)) return true;
      return false;
    },
    report(observation) {
      for (const { observer } of observers) {
        if (!wants(observer, observation.type)) continue;
        // Reporting a broken observer could only go to the broken observer. One that is async passes for one that is not.
        try {
          const answer: unknown = observer(observation);
          if (answer instanceof Promise) answer.catch(() => {});
        } catch {}
      }
    },
    add(observer) {
      const added = { observer };
      observers.add(added);
      return () => void observers.delete(added);
    },
  };
}
