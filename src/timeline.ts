/**
 * What happened to a command, in order: pushed, each lease that is known of, its end. The leases are those of the trail,
 * and the newest. A lease that was handed back before its handler was started (the worker had no handler for it, or no
 * room) is not kept by the database, nor is a middle one of more than 100.
 */
import type { Database } from "./database.ts";
import { isNoError, parseTime, type TrailEntry } from "./outcome.ts";
import { type CommandSummary, type SummaryRow, summaryOf } from "./summary.ts";

/** How a lease ended: a final status, or an attempt that is tried again, or one that was handed back. */
export type LeaseEnd =
  | "succeeded"
  | "failed"
  | "timed_out"
  | "cancelled"
  | "not_found"
  /** It ended without a word of its worker. */
  | "lost"
  | "snoozed"
  /** Handed back: the worker stopped, or had no handler for it. */
  | "released";

/** One thing that happened to a command. */
export type TimelineEntry =
  | { readonly kind: "pushed"; readonly at: Date }
  | {
      readonly kind: "leased";
      /** When it began. */
      readonly at: Date;
      /** When it ended; undefined while it runs, and where that is not recorded. */
      readonly to: Date | undefined;
      /** Undefined where that is not recorded. */
      readonly worker: string | undefined;
      /** Undefined while it runs. */
      readonly end: LeaseEnd | undefined;
      readonly error: { readonly code: string; readonly message: string | undefined } | undefined;
    }
  | { readonly kind: "finished"; readonly at: Date; readonly status: CommandSummary["status"] };

export interface Timeline {
  readonly command: CommandSummary;
  /** In the order of their times. */
  readonly entries: readonly TimelineEntry[];
  /** Its hooks and follow-ups, the oldest first, 1,000 at most. */
  readonly children: readonly CommandSummary[];
  /** Whether there are more children. */
  readonly truncated: boolean;
}

interface TimelineRow extends SummaryRow {
  readonly fence: number | null;
  readonly trail: string | null;
}

const maxChildren = 1_000;

export async function readTimeline(database: Database, id: string): Promise<Timeline | undefined> {
  const rows = await database.run<TimelineRow>("timeline", [id, maxChildren + 1]);
  const own = rows.find((row) => row.fence !== null);
  if (own === undefined) return undefined;
  const children = rows.filter((row) => row !== own).toSorted(byTime);
  return {
    command: summaryOf(own),
    entries: entriesOf(own),
    children: children.slice(0, maxChildren).map(summaryOf),
    truncated: children.length > maxChildren,
  };
}

/** By the texts, which have microseconds. */
export function byTime(a: SummaryRow, b: SummaryRow): number {
  const [one, other] = [sortable(a), sortable(b)];
  return one < other ? -1 : Number(one > other);
}

/** A text of a time drops zeros at its end: without its zone the shorter one comes first, as it should. */
const sortable = (row: SummaryRow): string => `${row.created_at.replace("+00", "")} ${row.id}`;

function entriesOf(row: TimelineRow): TimelineEntry[] {
  const trail = row.trail === null ? [] : (JSON.parse(row.trail) as TrailEntry[]);
  const leases: TimelineEntry[] = trail.map((entry) => ({
    kind: "leased",
    at: parseTime(entry.started_at),
    to: parseTime(entry.ended_at),
    worker: entry.worker,
    end: endOf(entry, row),
    error: isNoError(entry) ? undefined : { code: entry.code, message: entry.message },
  }));
  const newest = newestLease(row, trail);
  return [
    { kind: "pushed", at: parseTime(row.created_at) },
    ...leases,
    ...(newest ? [newest] : []),
    ...(row.finished_at === null
      ? []
      : [{ kind: "finished" as const, at: parseTime(row.finished_at), status: row.status }]),
  ];
}

/** The newest lease, where the trail does not have it. */
function newestLease(row: TimelineRow, trail: readonly TrailEntry[]): TimelineEntry | undefined {
  if (row.started_at === null) return undefined;
  const startedAt = row.started_at.replace(" ", "T");
  // A cancellation of what waits leases it, too, under the next fence and without a start.
  if (trail.some((entry) => entry.fence === row.fence || entry.started_at.startsWith(startedAt))) return undefined;
  const lease = { kind: "leased" as const, at: parseTime(row.started_at), error: undefined };
  const worker = row.worker ?? undefined;
  if (row.finished_at !== null && worker !== canceller) {
    return { ...lease, to: parseTime(row.finished_at), worker, end: row.status as LeaseEnd };
  }
  if (row.status === "running") return { ...lease, to: undefined, worker, end: undefined };
  // It is due although somebody holds it: the lease is over, and the next claim will write so into the trail.
  if (worker !== undefined && worker !== canceller && row.available_at !== null) {
    return { ...lease, to: parseTime(row.available_at), worker, end: "lost" };
  }
  return { ...lease, to: undefined, worker: undefined, end: "released" };
}

/** Who holds the lease under which a waiting command is cancelled. */
const canceller = "cancel";

/**
 * The newest lease of a command that has finished ended as that did, and any other by its code: one that is not the
 * library's own is a failed handler's.
 */
function endOf({ code, fence }: TrailEntry, row: TimelineRow): LeaseEnd {
  if (row.finished_at !== null && fence === row.fence) return row.status as LeaseEnd;
  const known: readonly string[] = [
    "timed_out",
    "cancelled",
    "not_found",
    "lost",
    "snoozed",
    "released",
  ] satisfies LeaseEnd[];
  return known.includes(code) ? (code as LeaseEnd) : "failed";
}
