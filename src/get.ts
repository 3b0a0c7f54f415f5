/** Reading commands by their ids. */
import type { CommandId, Metadata } from "./command.ts";
import type { Database } from "./database.ts";
import { metadataOf } from "./execute.ts";
import { type CommandOutcome, parseTime, type TrailEntry } from "./outcome.ts";

export type CommandStatus = "scheduled" | "pending" | "running" | CommandOutcome["status"];

export const liveStatuses: readonly CommandStatus[] = ["scheduled", "pending", "running"];
export const finalStatuses: readonly CommandStatus[] = ["succeeded", "failed", "cancelled", "timed_out", "not_found"];
/** Those of dead letters. */
export const deadStatuses: readonly CommandStatus[] = ["failed", "timed_out", "not_found"];

/** A command, as it was when it was read. Times have lost their microseconds. */
export interface CommandSnapshot {
  readonly id: CommandId;
  readonly name: string;
  readonly version: number;
  /** Set where it runs that hook of its parent. */
  readonly hook: "failure" | "cancellation" | undefined;
  readonly queue: string;
  readonly priority: number;
  readonly status: CommandStatus;
  /** As it was pushed. */
  readonly input: unknown;
  /** As it was recorded; undefined where there is none. */
  readonly output: unknown;
  readonly progress: unknown;
  readonly metadata: Metadata;
  /** What became of earlier leases that did not end well, oldest first. */
  readonly trail: readonly TrailEntry[];
  readonly fence: number;
  readonly attempt: number;
  readonly retriesLeft: number;
  readonly losses: number;
  readonly timeoutMs: number;
  /** Who holds it, or ended it. */
  readonly worker: string | undefined;
  readonly parentId: CommandId | undefined;
  readonly createdAt: Date;
  /** When it was wanted. */
  readonly dueAt: Date;
  /** When it is tried next; while it runs, when its lease ends. */
  readonly availableAt: Date | undefined;
  readonly startedAt: Date | undefined;
  readonly finishedAt: Date | undefined;
  readonly cancelRequestedAt: Date | undefined;
  /** Since when no worker that met it has had a handler for it. */
  readonly unknownSince: Date | undefined;
}

interface GetRow {
  readonly id: string;
  readonly name: string;
  readonly version: number;
  readonly hook: "failure" | "cancellation" | null;
  readonly queue: string;
  readonly priority: number;
  readonly status: CommandStatus;
  readonly input: string | null;
  readonly output: string | null;
  readonly progress: string | null;
  readonly metadata: string | null;
  readonly trail: string | null;
  readonly fence: number;
  readonly attempt: number;
  readonly max_attempts: number;
  readonly losses: number;
  readonly timeout_ms: number;
  readonly worker: string | null;
  readonly parent_id: string | null;
  readonly created_at: string;
  readonly due_at: string;
  readonly available_at: string | null;
  readonly started_at: string | null;
  readonly finished_at: string | null;
  readonly cancel_requested_at: string | null;
  readonly unknown_since: string | null;
}

export async function getCommands(ids: readonly string[], database: Database): Promise<Map<string, CommandSnapshot>> {
  const rows = await database.run<GetRow>("get", [JSON.stringify(ids)]);
  return new Map(rows.map((row) => [row.id, snapshot(row)]));
}

function snapshot(row: GetRow): CommandSnapshot {
  return {
    id: row.id as CommandId,
    name: row.name,
    version: row.version,
    hook: row.hook ?? undefined,
    queue: row.queue,
    priority: row.priority,
    status: row.status,
    input: parse(row.input),
    output: parse(row.output),
    progress: parse(row.progress),
    metadata: metadataOf(row),
    trail: (parse(row.trail) as TrailEntry[] | undefined) ?? [],
    fence: row.fence,
    attempt: row.attempt,
    retriesLeft: Math.max(row.max_attempts - row.attempt, 0),
    losses: row.losses,
    timeoutMs: row.timeout_ms,
    worker: row.worker ?? undefined,
    parentId: (row.parent_id ?? undefined) as CommandId | undefined,
    createdAt: parseTime(row.created_at),
    dueAt: parseTime(row.due_at),
    availableAt: time(row.available_at),
    startedAt: time(row.started_at),
    finishedAt: time(row.finished_at),
    cancelRequestedAt: time(row.cancel_requested_at),
    unknownSince: time(row.unknown_since),
  };
}

function parse(text: string | null): unknown {
  return text === null ? undefined : JSON.parse(text);
}

function time(text: string | null): Date | undefined {
  return text === null || text === "infinity" ? undefined : parseTime(text);
}
