/**
 * What an operator does to commands and queues. Everything works with no worker alive, waits for no lock, and is noted
 * in table `act` by the statement that does it.
 */
import { askAgain, type QuestionParts } from "./ask-again.ts";
import { changeByFilter, type FilterOptions, type FilterResult, filterKeys, requireFilterless } from "./by-filter.ts";
import { type CancelResult, cancelCommands } from "./cancel.ts";
import type { CommandId } from "./command.ts";
import type { AnyContract } from "./define-command.ts";
import { encodeInput } from "./encode-command.ts";
import type { CommandFilter } from "./filter.ts";
import { deadStatuses, finalStatuses, getCommands, liveStatuses } from "./get.ts";
import { type Due, everyQueue } from "./hints.ts";
import {
  type Keys,
  maxBatchCommands,
  maxDelayMs,
  maxPriority,
  requireBoolean,
  requireInteger,
  requireKeys,
  requireMs,
  requireName,
  requireQueue,
  requireStoredText,
  requireTime,
  shown,
} from "./limits.ts";
import { parseTime } from "./outcome.ts";
import { requireId } from "./uuid.ts";
import { pause } from "./wakeup.ts";

export interface ActOptions {
  /** Who does it, for the record: 1 to 200 characters. @default nobody is named */
  readonly by?: string | undefined;
}

const actKeys: Keys<ActOptions> = { by: true };
export const changeKeys: Keys<ActOptions & FilterOptions> = { ...actKeys, ...filterKeys };
const editKeys: Keys<Parameters<Control["edit"]>[1]> = { input: true, ...actKeys };
const queuesKeys: Keys<NonNullable<Parameters<Control["queues"]>[0]>> = { hooks: true };
const listKeys: Keys<NonNullable<Parameters<Control["acts"]>[0]>> = { limit: true };

export interface RetryOptions extends ActOptions {
  /** Replaces the input. Validated by the contract, where it is known here. @default the input that it had */
  readonly input?: unknown;
}

const retryKeys: Keys<RetryOptions & FilterOptions> = { ...changeKeys, input: true };

/**
 * What a retry came to: `retried`, it waits again; `unfinished`, it has not ended (or a first reply was lost, and it is
 * retried already); `erased`, its input is gone, so it needs a new one; `unknown`, there is none with this id; `busy`, somebody had it locked for as long as was asked.
 */
export type RetryResult = "retried" | "unfinished" | "erased" | "unknown" | "busy";

/**
 * What a change of a waiting command came to: `running` and `finished` ones are left as they are, and so is one that is
 * `cancelling`: its cancellation was requested, its worker is gone, and the next claim ends it.
 */
export type AmendResult = "changed" | "running" | "cancelling" | "finished" | "unknown" | "busy";

/**
 * What an erasure came to: `erased`, no command has the data any more; `waiting` and `running`, the command, or a hook
 * command or delivery of it, has not finished, still needs its data and was left alone; `unknown`; `busy`, as ever.
 */
export type EraseResult = "erased" | "waiting" | "running" | "unknown" | "busy";

/** A queue that has live commands or is paused. */
export interface QueueState {
  readonly queue: string;
  readonly paused: boolean;
  readonly pausedAt: Date | undefined;
  readonly pausedBy: string | undefined;
  readonly scheduled: number;
  readonly pending: number;
  readonly running: number;
  /** Names that are paused by themselves, of those whose commands live in this queue. */
  readonly pausedNames: readonly string[];
}

/** A name of commands that is paused. */
export interface PausedName {
  readonly name: string;
  readonly pausedAt: Date;
  readonly pausedBy: string | undefined;
}

/** Something that an operator did. */
export interface Act {
  readonly id: string;
  readonly at: Date;
  readonly by: string | undefined;
  readonly kind: "cancel" | "retry" | "edit" | "reschedule" | "reprioritise" | "erase" | "pause" | "resume" | "drop";
  /** `{ ids }` (the first 20), `{ ids: [id], corrected: true }` where an input was replaced, `{ filter }`, `{ queue }` or `{ name }`. */
  readonly target: Readonly<Record<string, unknown>>;
  /** How many commands it was; of a pause, how many waited. */
  readonly affected: number;
}

export interface Control {
  /**
   * Cancels a command, many, or what a filter finds: what waits ends at once, also with every worker stopped; the
   * handler of what runs has its signal aborted, within a second where notifications arrive and else with its next
   * heartbeat. A filter means what lives when the call begins, and never the hook commands that it causes.
   *
   * @throws TypeError and RangeError for what is no id or filter, and for a status that is final.
   */
  cancel(id: string, options?: ActOptions): Promise<CancelResult>;
  cancel(ids: readonly string[], options?: ActOptions): Promise<Map<string, CancelResult>>;
  cancel(filter: CommandFilter, options?: ActOptions & FilterOptions): Promise<FilterResult>;

  /**
   * Puts finished commands back, with their id, trail and history of leases: all attempts are theirs again, and they are
   * available from now. What succeeded is run again, too, where it is asked for by id or status; a filter without a
   * status means `failed`, `timed_out` and `not_found`. A filter means what had finished when the call began, but for what
   * was erased, which needs a new input.
   *
   * @throws InvalidInputError for an input that the contract, or JSON, refuses; TypeError and RangeError for what is no
   * id or filter, and for a status that is not final.
   */
  retry(id: string, options?: RetryOptions): Promise<RetryResult>;
  retry(ids: readonly string[], options?: ActOptions): Promise<Map<string, RetryResult>>;
  retry(filter: CommandFilter, options?: ActOptions & FilterOptions): Promise<FilterResult>;

  /**
   * Replaces the input of a command that waits. It keeps its place. A push that is repeated with the first input, and the
   * same id, is the repeat that it is: it changes nothing.
   *
   * @throws InvalidInputError for an input that the contract, where it is known here, or JSON refuses.
   */
  edit(id: string, options: ActOptions & { readonly input: unknown }): Promise<AmendResult>;

  /** Makes waiting commands due at another time; a time in the past is now. `delayMs` counts from now, at most a hundred years. */
  reschedule(id: string, when: Date | { readonly delayMs: number }, options?: ActOptions): Promise<AmendResult>;
  reschedule(
    ids: readonly string[],
    when: Date | { readonly delayMs: number },
    options?: ActOptions,
  ): Promise<Map<string, AmendResult>>;

  /** Gives waiting commands another priority, 0 (first) to 9 (last). What is due stays due, what is scheduled scheduled. */
  reprioritise(id: string, priority: number, options?: ActOptions): Promise<AmendResult>;
  reprioritise(ids: readonly string[], priority: number, options?: ActOptions): Promise<Map<string, AmendResult>>;

  /**
   * Erases a person's data from finished commands, their hook commands and the deliveries of what those published:
   * input, output, messages in the trail, and `metadata.actor`. Ids, names, times, statuses and codes remain. What waits
   * is to be cancelled first, what runs to end. Follow-ups are commands of their own, and events keep their data.
   */
  erase(id: string, options?: ActOptions): Promise<EraseResult>;
  erase(ids: readonly string[], options?: ActOptions): Promise<Map<string, EraseResult>>;

  /**
   * Keeps commands of a queue from being started, retries among them, until it is resumed. What runs goes on. Workers
   * know within a second where notifications arrive, else with their next poll. False where it was paused already.
   */
  pauseQueue(queue: string, options?: ActOptions): Promise<boolean>;
  /** Lets a queue go on, at once. False where it was not paused. */
  resumeQueue(queue: string, options?: ActOptions): Promise<boolean>;

  /**
   * Keeps commands of a name from being started, retries and hooks among them, in whatever queue, until it is resumed.
   * What runs goes on. Workers know as with a queue. Each that comes due meanwhile is claimed, and put off with its
   * attempt handed back, for as long as it has been put off before, five minutes at most: of a backlog that is large
   * and paused for long, pause the queue. False where it was paused already.
   */
  pauseName(name: string, options?: ActOptions): Promise<boolean>;
  /** Lets commands of a name go on, at once. It reads all live commands. False where it was not paused. */
  resumeName(name: string, options?: ActOptions): Promise<boolean>;
  /** The names that are paused, the first by the alphabet first. */
  pausedNames(): Promise<PausedName[]>;

  /**
   * Every queue that has live commands, or is paused. It counts all live commands.
   *
   * @throws TypeError for a `hooks` that is no boolean; NotMigratedError.
   */
  queues(options?: {
    /** Count hook commands, too. @default false */
    readonly hooks?: boolean;
  }): Promise<QueueState[]>;

  /** What operators did, the newest first. Acts are kept until somebody deletes them from table `act`. */
  acts(options?: {
    /** 1 to 1,000. @default 100 */
    readonly limit?: number;
  }): Promise<Act[]>;
}

export interface ControlParts extends QuestionParts {
  /** The contract of a name and version, where it is known here. */
  readonly contractOf: (name: string, version: number) => AnyContract | undefined;
}

const maxByLength = 200;

interface QueueRow {
  readonly queue: string;
  readonly paused_at: string | null;
  readonly paused_by: string | null;
  readonly scheduled: number;
  readonly pending: number;
  readonly running: number;
  readonly paused_names: string;
}

interface PausedNameRow {
  readonly name: string;
  readonly paused_at: string;
  readonly paused_by: string | null;
}

interface ActRow {
  readonly id: string;
  readonly at: string;
  readonly by_whom: string | null;
  readonly kind: Act["kind"];
  readonly target: string;
  readonly affected: number;
}

export function createControl(parts: ControlParts): Control {
  const { database, hints, clock } = parts;

  async function cancel(
    given: string | readonly string[] | CommandFilter,
    options?: ActOptions & FilterOptions,
  ): Promise<CancelResult | Map<string, CancelResult> | FilterResult> {
    const attempt = "Cannot cancel";
    requireKeys(attempt, options, changeKeys);
    const { by, ...how } = options ?? {};
    requireBy(attempt, by);
    if (isFilter(attempt, given)) {
      const change = {
        attempt,
        allowed: liveStatuses,
        usual: liveStatuses,
        apply: (ids: readonly string[], target: string) => cancelCommands(ids, parts, { by, target }),
        done: ["cancelled", "requested"] as const,
        // A running command that is to be tried again moves back among those that were listed.
        maxPasses: 10,
      };
      return await changeByFilter(given, change, how, parts);
    }
    requireFilterless(attempt, how);
    return answer(given, await cancelCommands(idsOf(attempt, given), parts, { by }));
  }

  async function retry(
    given: string | readonly string[] | CommandFilter,
    options?: RetryOptions & FilterOptions,
  ): Promise<RetryResult | Map<string, RetryResult> | FilterResult> {
    const attempt = "Cannot retry";
    requireKeys(attempt, options, retryKeys);
    const { by, input, ...how } = options ?? {};
    requireBy(attempt, by);
    if (input !== undefined && typeof given !== "string") {
      throw new TypeError(`${attempt}: input must be left out where it is not one command: give its id`);
    }
    const send = (ids: readonly string[], change: string | null, target: string | null) =>
      askAgain<RetryResult>(ids, { statement: "retry", params: [change, by ?? null, target] }, parts);
    if (isFilter(attempt, given)) {
      const change = {
        attempt,
        allowed: finalStatuses,
        usual: deadStatuses,
        apply: (ids: readonly string[], target: string) => send(ids, null, target),
        done: ["retried"] as const,
        maxPasses: 1,
        // They need a new input, and are retried one by one.
        erased: false,
      };
      return await changeByFilter(given, change, how, parts);
    }
    requireFilterless(attempt, how);
    const ids = idsOf(attempt, given);
    if (input === undefined) return answer(given, await send(ids, null, null));
    const change = await corrected("retry", given as string, input);
    return change === undefined ? "unknown" : answer(given, await send(ids, change, null));
  }

  /** Makes due what was put off because of its name. */
  async function release(name: string): Promise<void> {
    for (let more = true; more; ) {
      const rows = await database.run<Due>("releasePaused", [name]);
      hints.due(rows);
      more = rows.length > 0;
    }
  }

  /** A corrected input as a change; undefined where there is no such command. */
  async function corrected(attempt: string, id: string, input: unknown): Promise<string | undefined> {
    const known = (await getCommands([id], database)).get(id.toLowerCase());
    if (known === undefined) return undefined;
    const { name, version, hook } = known;
    if (hook !== undefined) {
      throw new TypeError(
        `Cannot ${attempt} command "${name}": input must be left out, as a hook command's is made by the library`,
      );
    }
    return `{"input":${await encodeInput(attempt, name, parts.contractOf(name, version), input)}}`;
  }

  const amend = (kind: string, ids: readonly string[], change: string, by: string | undefined) =>
    askAgain<AmendResult>(ids, { statement: "amend", params: [change, kind, by ?? null] }, parts);

  async function reschedule(
    given: string | readonly string[],
    when: Date | { readonly delayMs: number },
    options?: ActOptions,
  ): Promise<AmendResult | Map<string, AmendResult>> {
    const attempt = "Cannot reschedule";
    const by = byOf(attempt, options);
    const ids = idsOf(attempt, given);
    return answer(given, await amend("reschedule", ids, JSON.stringify(dueOf(attempt, when)), by));
  }

  async function reprioritise(
    given: string | readonly string[],
    priority: number,
    options?: ActOptions,
  ): Promise<AmendResult | Map<string, AmendResult>> {
    const attempt = "Cannot reprioritise";
    const by = byOf(attempt, options);
    requireInteger(attempt, "priority", priority, 0, maxPriority);
    return answer(given, await amend("reprioritise", idsOf(attempt, given), JSON.stringify({ priority }), by));
  }

  async function erase(
    given: string | readonly string[],
    options?: ActOptions,
  ): Promise<EraseResult | Map<string, EraseResult>> {
    const attempt = "Cannot erase";
    const by = byOf(attempt, options);
    const ids = idsOf(attempt, given);
    return answer(given, await askAgain<EraseResult>(ids, { statement: "erase", params: [by ?? null] }, parts));
  }

  return {
    cancel: cancel as Control["cancel"],
    retry: retry as Control["retry"],
    async edit(id, options) {
      requireKeys("Cannot edit", options, editKeys);
      const { input, by } = (options ?? {}) as Partial<typeof options>;
      requireBy("Cannot edit", by);
      if (typeof id !== "string") {
        throw new TypeError(`Cannot edit: the id of one command is wanted, got ${shown(id)}: edit each by itself`);
      }
      const ids = idsOf("Cannot edit", id);
      if (input === undefined) throw new TypeError("Cannot edit: input must be given, got undefined");
      const change = await corrected("edit", id, input);
      if (change === undefined) return "unknown";
      return (await amend("edit", ids, change, by)).get(id) as AmendResult;
    },
    reschedule: reschedule as Control["reschedule"],
    reprioritise: reprioritise as Control["reprioritise"],
    erase: erase as Control["erase"],

    async pauseQueue(queue, options) {
      requireQueue("Cannot pause queue", queue);
      const by = byOf("Cannot pause queue", options);
      const [row] = await database.run<{ changed: boolean }>("pauseQueue", [queue, by ?? null]);
      hints.paused(queue);
      return row?.changed === true;
    },
    async resumeQueue(queue, options) {
      requireQueue("Cannot resume queue", queue);
      const by = byOf("Cannot resume queue", options);
      const [row] = await database.run<{ changed: boolean }>("resumeQueue", [queue, by ?? null]);
      hints.paused(queue);
      return row?.changed === true;
    },
    async pauseName(name, options) {
      requireName("Cannot pause", name);
      const by = byOf(`Cannot pause "${name}"`, options);
      const [row] = await database.run<{ changed: boolean }>("pauseName", [name, by ?? null]);
      hints.paused(everyQueue);
      return row?.changed === true;
    },
    async resumeName(name, options) {
      requireName("Cannot resume", name);
      const by = byOf(`Cannot resume "${name}"`, options);
      const [row] = await database.run<{ changed: boolean }>("resumeName", [name, by ?? null]);
      // First, so that nobody puts off again what is released.
      hints.paused(everyQueue);
      await release(name);
      // What a worker was just putting off is leased until its outcome is recorded: it is looked for once more.
      if (row?.changed === true) {
        await pause(clock, 500);
        await release(name);
      }
      return row?.changed === true;
    },
    async pausedNames() {
      const rows = await database.run<PausedNameRow>("listPausedNames", []);
      return rows.map(({ name, paused_at, paused_by }) => ({
        name,
        pausedAt: parseTime(paused_at),
        pausedBy: paused_by ?? undefined,
      }));
    },
    async queues(options) {
      requireKeys("Cannot list queues", options, queuesKeys);
      const { hooks = false } = options ?? {};
      requireBoolean("Cannot list queues", "hooks", hooks);
      const rows = await database.run<QueueRow>("listQueues", [hooks]);
      return rows.map(({ paused_at, paused_by, paused_names, ...row }) => ({
        ...row,
        pausedNames: JSON.parse(paused_names) as string[],
        paused: paused_at !== null,
        pausedAt: paused_at === null ? undefined : parseTime(paused_at),
        pausedBy: paused_by ?? undefined,
      }));
    },
    async acts(options) {
      requireKeys("Cannot list acts", options, listKeys);
      const { limit = 100 } = options ?? {};
      requireInteger("Cannot list acts", "limit", limit, 1, maxBatchCommands);
      const rows = await database.run<ActRow>("listActs", [limit]);
      return rows.map(({ id, at, by_whom, kind, target, affected }) => ({
        id,
        at: parseTime(at),
        by: by_whom ?? undefined,
        kind,
        target: JSON.parse(target) as Act["target"],
        affected,
      }));
    },
  };
}

export function isFilter(attempt: string, given: unknown): given is CommandFilter {
  if (typeof given === "string" || Array.isArray(given)) return false;
  // Only a plain object: of a promise that nobody awaited, or a Set, no property would be seen, and all be meant.
  if (typeof given === "object" && given !== null) {
    const prototype: unknown = Object.getPrototypeOf(given);
    if (prototype === null || Object.getPrototypeOf(prototype) === null) return true;
  }
  throw new TypeError(`${attempt}: an id, a list of ids or a filter is wanted, got ${shown(given)}`);
}

export function idsOf(attempt: string, given: unknown): readonly CommandId[] {
  const ids: readonly unknown[] = Array.isArray(given) ? given : [given];
  for (const id of ids) requireId(attempt, id);
  return ids as readonly CommandId[];
}

/** One answer for one id, and all for many. */
function answer<Result>(given: unknown, results: Map<string, Result>): Result | Map<string, Result> {
  return typeof given === "string" ? (results.get(given) as Result) : results;
}

export function requireBy(attempt: string, by: unknown): void {
  if (by !== undefined) requireStoredText(attempt, "by", by, maxByLength);
}

function byOf(attempt: string, options: ActOptions | undefined): string | undefined {
  requireKeys(attempt, options, actKeys);
  requireBy(attempt, options?.by);
  return options?.by;
}

function dueOf(attempt: string, when: unknown): { due_at: string } | { delay_ms: number } {
  if (typeof when !== "object" || when === null) {
    throw new TypeError(`${attempt}: when must be a Date or { delayMs }, got ${shown(when)}`);
  }
  if ("delayMs" in when) {
    requireMs(attempt, "delayMs", when.delayMs, maxDelayMs);
    return { delay_ms: Math.ceil(when.delayMs as number) };
  }
  requireTime(attempt, "when", when);
  return { due_at: (when as Date).toISOString() };
}
