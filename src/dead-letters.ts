/**
 * Dead letters: commands that ended failed, timed out or not found, deliveries among them. They stay in history until
 * its retention takes them, an operator retries them, or drops them. All of it is a choice among finished commands, and
 * works as the rest of control does.
 */
import { askAgain, type QuestionParts } from "./ask-again.ts";
import { changeByFilter, type FilterOptions, type FilterResult, requireFilterless } from "./by-filter.ts";
import { type ActOptions, changeKeys, idsOf, isFilter, type RetryResult, requireBy } from "./control.ts";
import type { CommandFilter } from "./filter.ts";
import { type CommandSnapshot, type CommandStatus, deadStatuses, getCommands } from "./get.ts";
import { type Keys, requireKeys, requireObject, requireSignal, shown } from "./limits.ts";
import { type CommandList, type ListOptions, listKeys, listPage } from "./list.ts";
import { deliveryPrefix, requireSubscriptionName } from "./subscribe.ts";
import { requireId } from "./uuid.ts";
import { pause } from "./wakeup.ts";

/** How dead letters ended. */
export type DeadStatus = "failed" | "timed_out" | "not_found";

/** Which dead letters. All that is given must hold. They are looked for among all that did not succeed. */
export interface DeadLetterFilter extends Omit<CommandFilter, "status" | "name"> {
  /** Deliveries of this subscription; not together with `name`. @default commands of every name */
  readonly subscription?: string | undefined;
  /** Commands of this name. @default commands of every name */
  readonly name?: string | undefined;
  /** @default all three */
  readonly status?: DeadStatus | readonly DeadStatus[] | undefined;
}

export interface RetryDeadLettersOptions extends ActOptions, FilterOptions {
  /** At most so many in a second, over 0 to 100,000; an hour's worth of failures need not come back at once. @default all at once */
  readonly perSecond?: number | undefined;
  /** Ends it where it is: what was retried by then stays so, and the call rejects with its reason. @default none */
  readonly signal?: AbortSignal | undefined;
}

const retryKeys: Keys<RetryDeadLettersOptions> = { ...changeKeys, perSecond: true, signal: true };

/**
 * What a drop came to: `unfinished`, it waits or runs (somebody retried it, perhaps); `kept`, it is no dead letter;
 * `unknown`, there is none with this id; `busy`, somebody had it locked for as long as was asked.
 */
export type DropResult = "dropped" | "unfinished" | "kept" | "unknown" | "busy";

export interface DeadLetters {
  /**
   * Lists dead letters, the newest first, page by page, each with the code and message of its last error.
   *
   * @throws TypeError and RangeError for a filter, limit or cursor that is none.
   */
  deadLetters(filter?: DeadLetterFilter, options?: ListOptions): Promise<CommandList>;

  /** One dead letter with its input, its last error and its trail; undefined where the command is none. */
  deadLetter(id: string): Promise<CommandSnapshot | undefined>;

  /**
   * Puts dead letters back into the queue, with all their attempts: one, many, or what a filter finds (`{}`: all), which
   * means what had ended when the call began, but for what was erased. A command that is no dead letter is left alone by a filter, and retried
   * where its id is given. At a given pace it takes as long as that takes; a second call goes on with what is left.
   *
   * @throws TypeError and RangeError for what is no id, filter or pace.
   */
  retryDeadLetters(id: string, options?: RetryDeadLettersOptions): Promise<RetryResult>;
  retryDeadLetters(ids: readonly string[], options?: RetryDeadLettersOptions): Promise<Map<string, RetryResult>>;
  retryDeadLetters(filter: DeadLetterFilter, options?: RetryDeadLettersOptions): Promise<FilterResult>;

  /**
   * Deletes dead letters with all that is known of them; nothing brings them back.
   *
   * @throws TypeError and RangeError for what is no id or filter.
   */
  dropDeadLetters(id: string, options?: ActOptions): Promise<DropResult>;
  dropDeadLetters(ids: readonly string[], options?: ActOptions): Promise<Map<string, DropResult>>;
  dropDeadLetters(filter: DeadLetterFilter, options?: ActOptions & FilterOptions): Promise<FilterResult>;
}

const maxPerSecond = 100_000;
/** A paced retry goes in steps of this length, or of one command where that is longer. */
const stepMs = 250;
/** Of finished commands all: history keeps dead letters for its retention, and they are few. */
const everSince = new Date(0);

export function createDeadLetters(parts: QuestionParts): DeadLetters {
  const { database, clock } = parts;

  async function retry(
    given: string | readonly string[] | DeadLetterFilter,
    options?: RetryDeadLettersOptions,
  ): Promise<RetryResult | Map<string, RetryResult> | FilterResult> {
    const attempt = "Cannot retry dead letters";
    requireKeys(attempt, options, retryKeys);
    const { by, perSecond, signal, ...how } = options ?? {};
    requireBy(attempt, by);
    requirePace(attempt, perSecond);
    if (signal !== undefined) requireSignal(attempt, signal);
    const pacer = createPacer(perSecond, signal);
    const send = async (ids: readonly string[], target: string | null): Promise<Map<string, RetryResult>> => {
      const results = new Map<string, RetryResult>();
      for await (const step of pacer(ids)) {
        const question = { statement: "retry", params: [null, by ?? null, target] } as const;
        for (const [id, result] of await askAgain<RetryResult>(step, question, parts)) results.set(id, result);
      }
      return results;
    };
    if (isFilter(attempt, given)) {
      const change = {
        attempt,
        allowed: deadStatuses,
        usual: deadStatuses,
        apply: send,
        done: ["retried"] as const,
        maxPasses: 1,
        erased: false,
      };
      return await changeByFilter(commandFilter(attempt, given), change, how, parts);
    }
    requireFilterless(attempt, how);
    const results = await send(idsOf(attempt, given), null);
    return typeof given === "string" ? (results.get(given) as RetryResult) : results;
  }

  /** Parts of a list of ids, each when it is its time; with one pace for all lists. */
  function createPacer(perSecond: number | undefined, signal: AbortSignal | undefined) {
    let nextAt = clock.now();
    return async function* steps(ids: readonly string[]): AsyncGenerator<readonly string[]> {
      const size = perSecond === undefined ? ids.length : Math.max(1, Math.floor((perSecond * stepMs) / 1_000));
      for (let from = 0; from < ids.length; from += size) {
        signal?.throwIfAborted();
        const now = clock.now();
        if (nextAt > now) await pause(clock, nextAt - now);
        signal?.throwIfAborted();
        const step = ids.slice(from, from + size);
        if (perSecond !== undefined) nextAt = Math.max(nextAt, clock.now()) + (step.length / perSecond) * 1_000;
        yield step;
      }
    };
  }

  async function drop(
    given: string | readonly string[] | DeadLetterFilter,
    options?: ActOptions & FilterOptions,
  ): Promise<DropResult | Map<string, DropResult> | FilterResult> {
    const attempt = "Cannot drop dead letters";
    requireKeys(attempt, options, changeKeys);
    const { by, ...how } = options ?? {};
    requireBy(attempt, by);
    const send = (ids: readonly string[], target: string | null) =>
      askAgain<DropResult>(ids, { statement: "dropDeadLetters", params: [by ?? null, target] }, parts);
    if (isFilter(attempt, given)) {
      const change = {
        attempt,
        allowed: deadStatuses,
        usual: deadStatuses,
        apply: send,
        done: ["dropped"] as const,
        maxPasses: 1,
      };
      return await changeByFilter(commandFilter(attempt, given), change, how, parts);
    }
    requireFilterless(attempt, how);
    const results = await send(idsOf(attempt, given), null);
    return typeof given === "string" ? (results.get(given) as DropResult) : results;
  }

  return {
    async deadLetters(filter = {}, options) {
      const attempt = "Cannot list dead letters";
      requireKeys(attempt, options, listKeys);
      const meant = commandFilter(attempt, filter);
      return await listPage(database, meant, { ...options, attempt });
    },
    async deadLetter(id) {
      requireId("Cannot get dead letter", id);
      const command = (await getCommands([id], database)).get(id.toLowerCase());
      return command && deadStatuses.includes(command.status) ? command : undefined;
    },
    retryDeadLetters: retry as DeadLetters["retryDeadLetters"],
    dropDeadLetters: drop as DeadLetters["dropDeadLetters"],
  };
}

/** The same choice among commands. */
function commandFilter(attempt: string, filter: DeadLetterFilter): CommandFilter {
  requireObject(attempt, "filter", filter);
  const { subscription, status = deadStatuses, from = everSince, name, ...others } = filter;
  if (subscription !== undefined) {
    requireSubscriptionName(attempt, subscription);
    if (name !== undefined)
      throw new TypeError(`${attempt}: it has both subscription and name, of which it can have one`);
  }
  for (const one of (Array.isArray(status) ? status : [status]) as readonly CommandStatus[]) {
    if (deadStatuses.includes(one)) continue;
    throw new RangeError(`${attempt}: filter.status must be one of ${deadStatuses.join(", ")}, got ${shown(one)}`);
  }
  return { ...others, status, from, name: subscription === undefined ? name : deliveryPrefix + subscription };
}

function requirePace(attempt: string, perSecond: unknown): void {
  if (perSecond === undefined) return;
  if (typeof perSecond === "number" && perSecond > 0 && perSecond <= maxPerSecond) return;
  const Refusal = typeof perSecond === "number" ? RangeError : TypeError;
  throw new Refusal(`${attempt}: perSecond must be a number over 0 up to ${maxPerSecond}, got ${shown(perSecond)}`);
}
