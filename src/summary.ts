/** A command without what it carries: for lists, trees and timelines, where an input of 256 KiB each would be too much. */
import type { CommandId } from "./command.ts";
import type { CommandStatus } from "./get.ts";
import { parseTime } from "./outcome.ts";

/** A command, as it was when it was read, without its payloads. Times have lost their microseconds. */
export interface CommandSummary {
  readonly id: CommandId;
  readonly name: string;
  readonly version: number;
  /** Set where it runs that hook of its parent. */
  readonly hook: "failure" | "cancellation" | undefined;
  readonly queue: string;
  readonly priority: number;
  readonly status: CommandStatus;
  readonly attempt: number;
  readonly retriesLeft: number;
  /** Who holds it, or ended it. */
  readonly worker: string | undefined;
  readonly parentId: CommandId | undefined;
  /** Its own id where its metadata says none. */
  readonly correlationId: string;
  readonly createdAt: Date;
  /** When it was wanted. */
  readonly dueAt: Date;
  /** When it is tried next; while it runs, when its lease ends. */
  readonly availableAt: Date | undefined;
  readonly startedAt: Date | undefined;
  readonly finishedAt: Date | undefined;
  /** The last that went wrong, also where it was tried again or succeeded afterwards. */
  readonly error: { readonly code: string | undefined; readonly message: string } | undefined;
}

export interface SummaryRow {
  readonly id: string;
  readonly name: string;
  readonly version: number;
  readonly hook: "failure" | "cancellation" | null;
  readonly queue: string;
  readonly priority: number;
  readonly status: CommandStatus;
  readonly attempt: number;
  readonly max_attempts: number;
  readonly worker: string | null;
  readonly parent_id: string | null;
  readonly correlation_id: string | null;
  readonly created_at: string;
  readonly due_at: string;
  readonly available_at: string | null;
  readonly started_at: string | null;
  readonly finished_at: string | null;
  readonly error_code: string | null;
  readonly error_message: string | null;
}

export function summaryOf(row: SummaryRow): CommandSummary {
  return {
    id: row.id as CommandId,
    name: row.name,
    version: row.version,
    hook: row.hook ?? undefined,
    queue: row.queue,
    priority: row.priority,
    status: row.status,
    attempt: row.attempt,
    retriesLeft: Math.max(row.max_attempts - row.attempt, 0),
    worker: row.worker ?? undefined,
    parentId: (row.parent_id ?? undefined) as CommandId | undefined,
    correlationId: row.correlation_id ?? row.id,
    createdAt: parseTime(row.created_at),
    dueAt: parseTime(row.due_at),
    availableAt: optionalTime(row.available_at),
    startedAt: optionalTime(row.started_at),
    finishedAt: optionalTime(row.finished_at),
    error:
      row.error_code === null && row.error_message === null
        ? undefined
        : { code: row.error_code ?? undefined, message: row.error_message ?? "" },
  };
}

/** Undefined for a time that there is not, or that never comes. */
export function optionalTime(text: string | null): Date | undefined {
  return text === null || text === "infinity" ? undefined : parseTime(text);
}
