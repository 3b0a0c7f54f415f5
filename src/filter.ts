/**
 * A choice among commands, live and finished: what lists show and control works on. It is checked before any I/O, and
 * travels as one JSON text. History has indexes for time, parent and correlation id; whatever else is asked of it would
 * read all of it, so that needs a range of time.
 */
import { type CommandStatus, finalStatuses, liveStatuses } from "./get.ts";
import {
  requireBoolean,
  requireName,
  requireObject,
  requireQueue,
  requireStoredText,
  requireTime,
  shown,
} from "./limits.ts";
import { isUuid } from "./uuid.ts";

/**
 * Which commands. All that is given must hold.
 *
 * Among finished commands, `queue`, `name`, `errorText`, and `status` where neither `"succeeded"` nor `"failed"` is
 * asked for, need `from`, unless `parentId` or `correlationId` is given: they are looked for one by one.
 */
export interface CommandFilter {
  /** One status, or any of several. @default all */
  readonly status?: CommandStatus | readonly CommandStatus[] | undefined;
  readonly queue?: string | undefined;
  readonly name?: string | undefined;
  /** Whose follow-up or hook it is. */
  readonly parentId?: string | undefined;
  /** 1 to 200 characters, and no more of it is compared. The first command of a chain has its own id as that. */
  readonly correlationId?: string | undefined;
  /** Finished at this time or later; what is live: created then. */
  readonly from?: Date | undefined;
  /** Finished before this time; what is live: created before. */
  readonly to?: Date | undefined;
  /** Part of the code, name or message of an error in the trail, in any case: 1 to 200 characters. */
  readonly errorText?: string | undefined;
  /** Hook commands, too. @default false */
  readonly hooks?: boolean | undefined;
}

const statuses: readonly CommandStatus[] = [...liveStatuses, ...finalStatuses];
const keys = ["status", "queue", "name", "parentId", "correlationId", "from", "to", "errorText", "hooks"];
const maxTextLength = 200;

/**
 * A filter as functions of sql/ read it: a JSON text. `attempt` says what cannot be done: `Cannot list commands`.
 * Without `erased` it leaves out what was erased.
 *
 * @throws TypeError for a wrong type and for a key that is none; RangeError for what is out of range, or would have to
 * read all of history.
 */
export function encodeFilter(attempt: string, filter: CommandFilter, erased: boolean = true): string {
  requireObject(attempt, "filter", filter);
  for (const key of Object.keys(filter)) {
    if (keys.includes(key)) continue;
    throw new TypeError(`${attempt}: filter must have no keys but ${keys.join(", ")}, got ${shown(key)}`);
  }
  const { status, queue, name, parentId, correlationId, from, to, errorText, hooks } = filter;
  const wanted = statusesOf(attempt, status);
  if (queue !== undefined) requireQueue(attempt, queue);
  if (name !== undefined) requireName(attempt, name);
  if (parentId !== undefined && !isUuid(parentId)) {
    throw new TypeError(`${attempt}: parentId must be a UUID, got ${shown(parentId)}`);
  }
  if (correlationId !== undefined) requireStoredText(attempt, "correlationId", correlationId, maxTextLength);
  if (from !== undefined) requireTime(attempt, "from", from);
  if (to !== undefined) requireTime(attempt, "to", to);
  if (from !== undefined && to !== undefined && from.getTime() >= to.getTime()) {
    throw new RangeError(`${attempt}: from must lie before to, got ${from.toISOString()} and ${to.toISOString()}`);
  }
  if (errorText !== undefined) requireStoredText(attempt, "errorText", errorText, maxTextLength);
  if (hooks !== undefined) requireBoolean(attempt, "hooks", hooks);

  const finals = wanted.filter((one) => finalStatuses.includes(one));
  if (finals.length > 0 && from === undefined && parentId === undefined && correlationId === undefined) {
    const sparse = !finals.includes("succeeded") && !finals.includes("failed");
    const slow = Object.entries({ queue, name, errorText, status: sparse ? wanted : undefined })
      .filter(([, value]) => value !== undefined)
      .map(([key]) => key);
    if (slow.length > 0) {
      throw new RangeError(
        `${attempt}: from must be given with ${slow.join(" and ")}, for which finished commands have no index: ` +
          'pass from, parentId or correlationId, or ask for status "scheduled", "pending" or "running" only',
      );
    }
  }
  return JSON.stringify({
    statuses: wanted,
    queue,
    name,
    parent_id: parentId?.toLowerCase(),
    correlation_id: correlationId,
    from: from?.toISOString(),
    to: to?.toISOString(),
    error_text: errorText,
    hooks: hooks ?? false,
    erased: erased ? undefined : false,
  });
}

function statusesOf(attempt: string, status: unknown): readonly CommandStatus[] {
  if (status === undefined) return statuses;
  const list: readonly unknown[] = Array.isArray(status) ? status : [status];
  if (list.length === 0) throw new RangeError(`${attempt}: status must name at least one, got an empty array`);
  for (const one of list) {
    if (typeof one !== "string") throw new TypeError(`${attempt}: status must be a string, got ${shown(one)}`);
    if (statuses.includes(one as CommandStatus)) continue;
    throw new RangeError(`${attempt}: status must be one of ${statuses.join(", ")}, got ${shown(one)}`);
  }
  return [...new Set(list as readonly CommandStatus[])];
}
