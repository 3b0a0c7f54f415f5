/** Why a command is not running, in one sentence that says what to do about it. */
import type { CommandId } from "./command.ts";
import type { Database } from "./database.ts";
import type { ErrorRecord } from "./failure.ts";
import type { CommandStatus } from "./get.ts";
import type { TrailEntry } from "./outcome.ts";
import { requireId } from "./uuid.ts";

/**
 * What decides, for programs:
 *
 * - `finished`: it has ended.
 * - `cancel_requested`: it was to be cancelled while a worker held it; that worker, or the next claim, ends it.
 * - `held`: a worker has a lease of it, and runs it or is about to.
 * - `holder_lost`: a worker has a lease of it, but has stopped, or was not heard of when it had to be.
 * - `alone`: it was lost twice or more, so it runs with nothing beside it, and waits for that.
 * - `snoozed`: its handler put it off.
 * - `backing_off`: an attempt failed, and the next one has its time.
 * - `scheduled`: its time has not come.
 * - `queue_paused`, `name_paused`: somebody paused its queue, or commands of its name.
 * - `no_worker`: no worker that runs serves its queue.
 * - `no_handler`: no worker that runs has a handler for its name and version, or none that serves its queue.
 * - `behind_others`: others come first in its queue.
 * - `next`: nothing holds it up; a worker takes it as soon as one has room.
 */
export type ExplanationCause =
  | "finished"
  | "cancel_requested"
  | "held"
  | "holder_lost"
  | "alone"
  | "snoozed"
  | "backing_off"
  | "scheduled"
  | "queue_paused"
  | "name_paused"
  | "no_worker"
  | "no_handler"
  | "behind_others"
  | "next";

/** Why a command is not running. What does not belong to the cause is undefined. */
export interface Explanation {
  readonly id: CommandId;
  readonly name: string;
  readonly version: number;
  readonly queue: string;
  readonly status: CommandStatus;
  readonly cause: ExplanationCause;
  /** For people, in English: why, and what to do. It quotes names and messages of errors, never a payload. */
  readonly sentence: string;
  /** Until when it stays so, unless something happens: the end of a lease, or when it is due. */
  readonly until: Date | undefined;
  /** The worker that holds it; with `no_worker` the one that served its queue last. */
  readonly worker: string | undefined;
  /** When that worker was last heard of. */
  readonly workerSeenAt: Date | undefined;
  /** With `behind_others`: how many come first, counted up to 10,000. */
  readonly ahead: number | undefined;
  /** With `backing_off`, and for what failed: the last error. */
  readonly error: ErrorRecord | undefined;
}

export interface Explaining {
  /**
   * Says why a command is not running and what to do about it; undefined where there is no such command. It is one
   * statement, and quick however much there is.
   *
   * @throws TypeError for an id that is none; NotMigratedError.
   */
  explain(id: string): Promise<Explanation | undefined>;
}

interface ExplainRow {
  readonly name: string;
  readonly version: number;
  readonly queue: string;
  readonly status: CommandStatus;
  readonly worker: string | null;
  readonly attempt: number;
  readonly max_attempts: number;
  readonly losses: number;
  readonly at_ms: number;
  readonly available_ms: number | null;
  readonly started_ms: number | null;
  readonly finished_ms: number | null;
  readonly cancel_requested_ms: number | null;
  readonly unknown_since_ms: number | null;
  readonly fence: number;
  readonly last_entry: string | null;
  readonly queue_paused_ms: number | null;
  readonly queue_paused_by: string | null;
  readonly name_paused_ms: number | null;
  readonly name_paused_by: string | null;
  readonly serving: number;
  readonly last_served_by: string | null;
  readonly last_served_ms: number | null;
  readonly handler_known: boolean;
  readonly handler_seen_ms: number | null;
  readonly handler_versions: string | null;
  readonly worker_status: "running" | "lost" | "stopped" | null;
  readonly worker_seen_ms: number | null;
  readonly ahead: number;
  readonly handler_queues: string | null;
}

/** What a cause comes to, besides what every explanation has. */
interface Reason {
  readonly cause: ExplanationCause;
  readonly sentence: string;
  readonly until?: number | null;
  readonly worker?: string | null;
  readonly workerSeen?: number | null;
  readonly ahead?: number;
  readonly error?: ErrorRecord | undefined;
}

/** As many are counted: sql/functions/explain.sql. */
const maxAhead = 10_000;
/** From so many losses on a command runs alone. */
const aloneAfter = 2;

export function createExplaining(database: Database): Explaining {
  return {
    async explain(id) {
      requireId("Cannot explain command", id);
      const [row] = await database.run<ExplainRow>("explain", [id.toLowerCase()]);
      if (row === undefined) return undefined;
      const { cause, sentence, until, worker, workerSeen, ahead, error } = reasonOf(row);
      return {
        id: id.toLowerCase() as CommandId,
        name: row.name,
        version: row.version,
        queue: row.queue,
        status: row.status,
        cause,
        sentence,
        until: dateOf(until),
        worker: worker ?? undefined,
        workerSeenAt: dateOf(workerSeen),
        ahead,
        error,
      };
    },
  };
}

/** The first that applies: what is further down does not matter before that is out of the way. */
function reasonOf(row: ExplainRow): Reason {
  const entry = row.last_entry === null ? undefined : (JSON.parse(row.last_entry) as TrailEntry);
  if (row.finished_ms !== null) return finished(row, entry);
  if (row.status === "running") return held(row);
  if (row.cancel_requested_ms !== null) {
    const sentence = `Cancellation was requested at ${text(row.cancel_requested_ms)} while a worker held it that is not heard of any more: the next claim ends it, or cancel it again to end it at once.`;
    return { cause: "cancel_requested", sentence };
  }
  return row.status === "scheduled" ? scheduled(row, entry) : pending(row);
}

function finished(row: ExplainRow, entry: TrailEntry | undefined): Reason {
  const at = text(row.finished_ms);
  if (row.status === "succeeded") {
    return { cause: "finished", sentence: `It succeeded at ${at}: there is nothing to do, unless you want it again.` };
  }
  const error = entry && recordOf(entry);
  if (row.status === "cancelled") {
    return { cause: "finished", sentence: `It was cancelled at ${at}: retry it to have it run after all.` };
  }
  const how = {
    failed: "It failed",
    timed_out: "It took longer than its timeout, and ended",
    not_found: "No worker had a handler for it, so it ended",
  }[row.status as "failed"];
  const why = error === undefined ? "" : ` (${errorText(error)})`;
  return { cause: "finished", sentence: `${how} at ${at}${why}: put right what was wrong, and retry it.`, error };
}

function held(row: ExplainRow): Reason {
  const name = quoted(row.worker);
  const end = text(row.available_ms);
  const own = { until: row.available_ms, worker: row.worker, workerSeen: row.worker_seen_ms };
  if (row.worker_status === "lost" || row.worker_status === "stopped") {
    const what = row.worker_status === "lost" ? "was last seen" : "stopped";
    return {
      ...{ cause: "holder_lost", ...own },
      sentence: `Worker ${name} holds it until ${end}, but ${what} at ${text(row.worker_seen_ms)}: look after that worker; where it does not come back, another takes the command then.`,
    };
  }
  if (row.cancel_requested_ms !== null) {
    return {
      ...{ cause: "cancel_requested", ...own },
      sentence: `Cancellation was requested at ${text(row.cancel_requested_ms)}, and worker ${name}, which holds it until ${end} at least, is told to abort it: wait, and see that its handler heeds its signal.`,
    };
  }
  if (row.losses >= aloneAfter) {
    return {
      ...{ cause: "alone", ...own },
      sentence: `It was lost ${row.losses} times, so worker ${name}, which holds it until ${end} at least, runs it with nothing beside it, and waits for what else it runs to end: look for what kills its process or blocks it.`,
    };
  }
  return {
    ...{ cause: "held", ...own },
    sentence: `Worker ${name} has held it since ${text(row.started_ms)}, and until ${end} at least, for attempt ${row.attempt} of ${row.max_attempts}: wait for its end, or cancel it.`,
  };
}

function scheduled(row: ExplainRow, entry: TrailEntry | undefined): Reason {
  const until = row.available_ms;
  const at = until === null ? "is put off without end" : `is tried again at ${text(until)}`;
  // Else it is of an earlier lease: the newest one was handed back without having started.
  const newest = entry?.fence === row.fence ? entry : undefined;
  if (newest?.code === "snoozed") {
    const sentence = `Its handler put it off at ${text(Date.parse(newest.ended_at))}, and it ${at}: wait, or reschedule it.`;
    return { cause: "snoozed", sentence, until };
  }
  if (newest !== undefined && !["lost", "released"].includes(newest.code)) {
    const error = recordOf(newest);
    const sentence = `Attempt ${newest.attempt} of ${row.max_attempts} failed (${errorText(error)}), and it ${at}: wait, or reschedule it.`;
    return { cause: "backing_off", sentence, until, error };
  }
  if (row.unknown_since_ms !== null) {
    if (row.name_paused_ms !== null) return namePaused(row);
    if (!row.handler_known || row.handler_queues !== null) return noHandler(row);
    const sentence = `It was claimed by a worker that has no handler for ${command(row)}, and it ${at}: wait, or give workers with other handlers queues of their own.`;
    return { cause: "next", sentence, until };
  }
  if (row.losses >= aloneAfter) {
    const sentence = `It was lost ${row.losses} times, so it runs where nothing else does; a worker that had no room for that put it off, and it ${at}: look for what kills its process or blocks it.`;
    return { cause: "alone", sentence, until };
  }
  if (until === null) return { cause: "scheduled", sentence: "It is put off without end: reschedule it." };
  return { cause: "scheduled", sentence: `It is scheduled for ${text(until)}: wait, or reschedule it.`, until };
}

function pending(row: ExplainRow): Reason {
  const queue = quoted(row.queue);
  if (row.queue_paused_ms !== null) {
    const sentence = `Queue ${queue} is paused since ${text(row.queue_paused_ms)}${by(row.queue_paused_by)}: resume it.`;
    return { cause: "queue_paused", sentence };
  }
  if (row.name_paused_ms !== null) return namePaused(row);
  if (row.serving === 0) {
    const last =
      row.last_served_by === null
        ? ""
        : `; the last that did, ${quoted(row.last_served_by)}, was seen at ${text(row.last_served_ms)}`;
    const sentence = `No worker that runs serves queue ${queue}${last}: start one with queues: [${queue}], or push to a queue that is served.`;
    return { cause: "no_worker", sentence, worker: row.last_served_by, workerSeen: row.last_served_ms };
  }
  if (!row.handler_known || row.handler_queues !== null) return noHandler(row);
  if (row.losses >= aloneAfter) {
    const sentence = `It was lost ${row.losses} times, so it runs where nothing else does, and waits for a worker to have room for that: look for what kills its process or blocks it.`;
    return { cause: "alone", sentence };
  }
  const serve = row.serving === 1 ? "the worker that serves it" : `the ${row.serving} workers that serve it`;
  if (row.ahead > 0) {
    const count = row.ahead >= maxAhead ? "10,000 or more commands" : amount(row.ahead);
    const sentence = `It waits behind ${count} of queue ${queue} that come${row.ahead === 1 ? "s" : ""} first: wait for ${serve}, start more, or give it a better priority.`;
    return { cause: "behind_others", sentence, ahead: row.ahead };
  }
  const sentence = `It is the next of queue ${queue}: wait for ${serve} to have room, and start more where that takes too long.`;
  return { cause: "next", sentence };
}

function namePaused(row: ExplainRow): Reason {
  const sentence = `Commands named ${quoted(row.name)} are paused since ${text(row.name_paused_ms)}${by(row.name_paused_by)}: resume them.`;
  return { cause: "name_paused", sentence };
}

function noHandler(row: ExplainRow): Reason {
  const until = row.available_ms !== null && row.available_ms > row.at_ms ? row.available_ms : null;
  if (row.handler_queues !== null) {
    const queues = JSON.parse(row.handler_queues) as string[];
    const sentence = `Workers that have a handler for ${command(row)} serve ${queuesText(queues)}, not queue ${quoted(row.queue)}: have one of them serve it, too, or cancel it and push it to a queue of theirs.`;
    return { cause: "no_handler", sentence, until };
  }
  const versions = row.handler_versions === null ? [] : (JSON.parse(row.handler_versions) as number[]);
  let known = "; none ever had one";
  if (row.handler_seen_ms !== null) known = `; one that had was last heard of at ${text(row.handler_seen_ms)}`;
  else if (versions.length > 0) known = `, only for version ${versions.join(", ")}`;
  const sentence = `No worker that runs has a handler for ${command(row)}${known}: start one that does, or cancel it.`;
  return { cause: "no_handler", sentence, until };
}

const command = (row: ExplainRow): string => `${quoted(row.name)} version ${row.version}`;
const quoted = (name: string | null): string => JSON.stringify(name ?? "");
const by = (whom: string | null): string => (whom === null ? "" : ` by ${whom}`);
const amount = (count: number): string => `${count.toLocaleString("en")} command${count === 1 ? "" : "s"}`;
const dateOf = (ms: number | null | undefined): Date | undefined => (typeof ms === "number" ? new Date(ms) : undefined);
const recordOf = ({ code, message }: ErrorRecord): ErrorRecord => ({ code, message });

/** Three of them at most, in words. */
export function queuesText(queues: readonly string[]): string {
  const named = queues.slice(0, 3).map(quoted);
  const last = queues.length > 3 ? `${queues.length - 3} more` : named.length > 1 ? named.pop() : undefined;
  return `queue${queues.length === 1 ? "" : "s"} ${named.join(", ")}${last === undefined ? "" : ` and ${last}`}`;
}

/** To the second, in UTC. */
const text = (ms: number | null): string =>
  ms === null ? "an unknown time" : `${new Date(ms).toISOString().slice(0, 19).replace("T", " ")}Z`;

/** A message may have many lines, and thousands of characters. */
function errorText({ code, message }: ErrorRecord): string {
  const line = message.replaceAll(/\s+/g, " ").trim();
  return `${code}: ${line.length > 200 ? `${line.slice(0, 200)}…` : line}`;
}
