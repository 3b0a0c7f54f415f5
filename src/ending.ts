/** What a lease ends with: from what a handler did, or from what was done to it, to what the finish records. */
import { type Backoff, backoffMs } from "./backoff.ts";
import type { ExecutionResult, Success } from "./execute.ts";
import { errorRecord, retryAfterOf } from "./failure.ts";
import type { Outcome } from "./finish.ts";
import type { ClaimedRow, Lease } from "./lease.ts";
import type { Sent } from "./observation.ts";

/** How a lease ends, but for which it is. */
export type Ending = Omit<Outcome, "id" | "fence" | "within">;

/** What a handler came to. Where it was aborted, it depends on why. */
export function endingOf(lease: Lease, result: ExecutionResult, random: () => number): Ending {
  switch (result.kind) {
    case "succeeded":
      return succeededEnding(result);
    case "snoozed":
      return {
        verdict: "snooze",
        delayMs: result.end.delayMs,
        until: result.end.until?.toISOString(),
        error: { code: "snoozed", message: "Put off by its handler" },
      };
    case "cancelled":
      return {
        verdict: "cancelled",
        error: errorRecord(result.end.reason ?? "Cancelled by its handler", "cancelled"),
      };
    case "failed":
    case "finished": // That is what it comes to where the database knows of no such success.
      if (lease.reason?.code === "ORCHESTRATUM_STOPPED") return stoppedEnding(lease);
      if (lease.cancelled) return cancelledEnding(result.error === lease.reason ? undefined : result.error);
      return failedEnding(lease, result.error, result.permanent, random);
  }
}

export function succeededEnding({ output, followUps, events }: Success): Ending {
  if (followUps.length + events.length === 0) return { verdict: "succeeded", output };
  return { verdict: "succeeded", output, events, followUps };
}

/** What a success sent, counted. */
export function sentWith({ followUps = [], events = [] }: Ending, appends: Success["appends"] = []): Sent[] {
  const counts = new Map<string, Sent & { count: number }>();
  const add = (one: Omit<Sent, "count">): void => {
    const key = [one.verb, one.name, one.queue, one.stream].join("\n");
    const entry = counts.get(key);
    if (entry) entry.count++;
    else counts.set(key, { ...one, count: 1 });
  };
  for (const { name, queue } of followUps) add({ verb: "push", name, queue });
  for (const { topic } of events) add({ verb: "publish", name: topic });
  for (const { stream, events } of appends)
    for (const { topic } of events) add({ verb: "append", name: topic, stream });
  return [...counts.values()];
}

/** A failed attempt: tried again while there are attempts left. */
export function failedEnding(lease: Lease, error: unknown, permanent: boolean, random: () => number): Ending {
  return retriedOr("failed", lease, errorRecord(error), error, permanent, random);
}

/** An attempt that took too long. */
export function timedOutEnding(lease: Lease, error: Error, random: () => number): Ending {
  const { name, message } = error;
  return retriedOr("timed_out", lease, { code: "timed_out", name, message }, error, false, random);
}

function retriedOr(
  final: "failed" | "timed_out",
  { row, handler }: Lease,
  record: NonNullable<Outcome["error"]>,
  error: unknown,
  permanent: boolean,
  random: () => number,
): Ending {
  if (permanent || row.attempt >= row.max_attempts) return { verdict: final, error: record };
  const backoff: Backoff = handler?.contract.defaults.backoff ?? {};
  const delayMs = Math.max(backoffMs(backoff, row.attempt, error, random), retryAfterOf(error));
  return { verdict: "retry", error: record, delayMs };
}

export function cancelledEnding(error?: unknown): Ending {
  return { verdict: "cancelled", ...(error === undefined ? {} : { error: errorRecord(error) }) };
}

/** What a stop had to abort is handed back, except what may be started only once, and was. */
export function stoppedEnding({ row, called }: Lease): Ending {
  const message = "Its worker was stopped while it ran";
  if (row.max_attempts > 1 || !called) return { verdict: "release", delayMs: 0, error: { code: "released", message } };
  return { verdict: "failed", error: { code: "stopped", message: `${message}, and it may be started only once` } };
}

/** What was decided before the claim: a cancellation, or too many losses. */
export function decidedEnding(row: ClaimedRow): Ending {
  if (row.purpose === "cancel") return { verdict: "cancelled" };
  const message = `Its lease ended ${row.losses} times without a word: the worker was killed, cut off, or stood still`;
  return { verdict: "failed", error: { code: "lost", message } };
}

/** An outcome that the database refuses because of what is in it becomes a failed attempt, by a text that it takes. */
export function refusedEnding(lease: Lease | undefined, random: () => number): Ending {
  const error = { code: "refused", message: "The database refused to record this outcome because of what is in it" };
  if (!lease) return { verdict: "release", delayMs: 60_000 };
  return retriedOr("failed", lease, error, error, false, random);
}
