/**
 * The subscriptions that are stored, so that a publisher need not know its subscribers: adding them with a past, and
 * removing them. Workers store those of their handlers when they start (see registry.ts).
 *
 * Filling up from a position: the subscription is committed first, and from then on is met by every publisher but those
 * whose transactions had looked for subscriptions before. They are waited for, then all that is committed is placed in
 * the log, and what stands in it up to there is delivered. A delivery's id follows from event and subscription, so it
 * does not matter what was delivered live meanwhile.
 */
import type { QuestionParts } from "./ask-again.ts";
import type { FilterResult } from "./by-filter.ts";
import type { ActOptions } from "./control.ts";
import { type Database, isPassing, repeatDelayMs } from "./database.ts";
import type { CommandFilter } from "./filter.ts";
import type { Handler } from "./handler.ts";
import { type Due, earliest } from "./hints.ts";
import { type Keys, maxDelayMs, requireKeys, requireMs, shown } from "./limits.ts";
import { parseTime } from "./outcome.ts";
import { type LogPosition, type LogReader, requirePosition } from "./read-log.ts";
import { deliveryPrefix, requireSubscriptionName } from "./subscribe.ts";
import { pause } from "./wakeup.ts";

export interface AddSubscriptionOptions {
  /**
   * From which events on: "now", or behind a position of the log, 0 being before the first event. What is in the log
   * behind it is delivered before the call resolves.
   *
   * @default "now"
   */
  readonly from?: "now" | LogPosition | undefined;
  /**
   * How long it waits for open transactions that may have published without it, and for others who place in the log what
   * is committed, in ms.
   *
   * @default 60_000
   */
  readonly waitMs?: number | undefined;
}

const addKeys: Keys<AddSubscriptionOptions> = { from: true, waitMs: true };

export interface RemoveSubscriptionOptions {
  /**
   * What becomes of deliveries that wait or run: "keep" leaves them to workers that still have the handler, "cancel"
   * cancels them.
   */
  readonly deliveries: "keep" | "cancel";
  /** Who does it, for the record of what is cancelled: 1 to 200 characters. @default nobody is named */
  readonly by?: string | undefined;
}

const removeKeys: Keys<RemoveSubscriptionOptions> = { deliveries: true, by: true };

/** A subscription as it is stored. */
export interface SubscriptionState {
  readonly name: string;
  /** None of one that was removed. */
  readonly patterns: readonly string[];
  readonly queue: string;
  readonly priority: number;
  readonly retries: number;
  readonly timeoutMs: number;
  readonly addedAt: Date;
  /** When a worker last said that it has the handler, to half a minute. */
  readonly seenAt: Date;
  readonly removedAt: Date | undefined;
}

export interface Subscriptions {
  /** Every subscription, those that were removed among them. */
  subscriptions(): Promise<SubscriptionState[]>;

  /**
   * Stores a subscription without waiting for a worker, also one that was removed, and delivers to it what is in the log
   * behind a position. It can be repeated: nothing is delivered twice of which history still has the delivery (of what
   * succeeded, 7 days by default); what was handled before that is delivered again, so repeat it from a later position.
   * What a transaction of REPEATABLE READ publishes that began before is delivered by what there was then.
   *
   * @returns how far the log was delivered; undefined with `from: "now"`.
   * @throws TypeError and RangeError for what `subscribe` did not make and for options out of their limits;
   * OpenPublishersError where transactions stay open for longer than `waitMs`: it is added by then, and to be repeated.
   */
  addSubscription(
    handler: Handler,
    options?: AddSubscriptionOptions,
  ): Promise<{ readonly position: number | undefined }>;

  /**
   * Ends a subscription: nothing published from now on is delivered to it. It stays removed, whatever workers register,
   * until `addSubscription` adds it again. What open transactions have published before is delivered all the same.
   *
   * @returns whether there was one, and what `deliveries: "cancel"` came to.
   * @throws TypeError and RangeError for what is no name, and where `deliveries` is not said.
   */
  removeSubscription(
    name: string,
    options: RemoveSubscriptionOptions,
  ): Promise<{ readonly removed: boolean; readonly cancelled: FilterResult | undefined }>;
}

/** Transactions are still open that may have published without seeing the subscription, which is stored by now. */
export class OpenPublishersError extends Error {
  readonly code = "ORCHESTRATUM_OPEN_PUBLISHERS";
  override readonly name = "OpenPublishersError";
  /** The server's processes that hold them; none is known of a prepared transaction. */
  readonly pids: readonly number[];
  constructor(name: string, pids: readonly number[]) {
    super(
      `Cannot fill up subscription "${name}": transactions that began before it are still open (${pids.join(", ") || "prepared"}): add it again when they have ended, from a position that history's retention reaches back to: nothing is delivered twice then`,
    );
    this.pids = pids;
  }
}

interface SubscriptionRow {
  readonly name: string;
  readonly patterns: string;
  readonly queue: string;
  readonly priority: number;
  readonly max_attempts: number;
  readonly timeout_ms: number;
  readonly added_at: string;
  readonly seen_at: string;
  readonly removed_at: string | null;
}

interface FillRow extends Due {
  readonly reached: string | null;
}

/** Most events of the log that one statement looks at. */
const fillAtOnce = 500;
const defaultWaitMs = 60_000;
const maxTroubles = 8;

export interface SubscriptionsParts extends QuestionParts {
  readonly log: LogReader;
  readonly cancel: (filter: CommandFilter, options: ActOptions) => Promise<FilterResult>;
}

/** A subscription's row, as registering takes it. */
function subscriptionRow({ contract, subscription }: Handler): object | undefined {
  const { queue, priority, retries, timeoutMs } = contract.defaults;
  return (
    subscription && {
      name: subscription.name,
      patterns: subscription.patterns,
      queue,
      priority,
      max_attempts: retries + 1,
      timeout_ms: timeoutMs,
    }
  );
}

export function createSubscriptions(parts: SubscriptionsParts): Subscriptions {
  const { database, clock, hints, report, log } = parts;

  /** Waits until none of these transactions (all that are open now, where none are named) is open. */
  async function publishersEnded(name: string, until: number): Promise<void> {
    let left: string | null = null;
    for (let attempt = 1; ; attempt++) {
      const rows: { transaction: string; pid: number | null }[] = await database.run("openPublishers", [left]);
      if (rows.length === 0) return;
      if (clock.now() >= until) {
        throw new OpenPublishersError(name, [...new Set(rows.map(({ pid }) => pid).filter((pid) => pid !== null))]);
      }
      left = JSON.stringify(rows.map(({ transaction }) => transaction));
      await pause(clock, Math.min(repeatDelayMs(clock, Math.min(attempt, 5), 500), until - clock.now()));
    }
  }

  /** Places all that is committed by now, and answers the end of the log. */
  async function endOfLog(name: string, until: number): Promise<string> {
    const [inbox] = await database.run<{ seq: string }>("inboxEnd", []);
    for (;;) {
      await log.place();
      const [state] = await database.run<{ position: string; left: boolean }>("logEnd", [inbox?.seq ?? "0"]);
      if (!state?.left) return state?.position ?? "0";
      if (clock.now() >= until) {
        throw new Error(
          `Cannot fill up subscription "${name}": somebody else has not placed what is committed: add it again`,
        );
      }
      // Somebody else is placing them at this moment.
      await pause(clock, 5);
    }
  }

  async function fill(name: string, from: number, until: number): Promise<number> {
    const end = await endOfLog(name, until);
    let position = String(from);
    for (let troubles = 0; Number(position) < Number(end); ) {
      try {
        const rows = await database.run<FillRow>("fillSubscription", [name, position, end, fillAtOnce]);
        hints.due(earliest(rows.filter(({ queue }) => queue !== null)));
        position = rows.find(({ reached }) => reached !== null)?.reached ?? end;
      } catch (error) {
        if (!isPassing(error) || ++troubles >= maxTroubles) throw error;
        report({ type: "database_trouble", operation: "fillSubscription", error, attempt: troubles });
        await pause(clock, repeatDelayMs(clock, troubles, 1_000));
      }
    }
    return Math.max(Number(end), from);
  }

  return {
    async subscriptions() {
      const rows = await database.run<SubscriptionRow>("listSubscriptions", []);
      return rows.map((row) => ({
        name: row.name,
        patterns: JSON.parse(row.patterns) as string[],
        queue: row.queue,
        priority: row.priority,
        retries: row.max_attempts - 1,
        timeoutMs: row.timeout_ms,
        addedAt: parseTime(row.added_at),
        seenAt: parseTime(row.seen_at),
        removedAt: row.removed_at === null ? undefined : parseTime(row.removed_at),
      }));
    },

    async addSubscription(handler, options) {
      const attempt = "Cannot add subscription";
      const row = typeof handler === "object" && handler !== null ? subscriptionRow(handler) : undefined;
      if (!row || !handler.subscription) {
        throw new TypeError(`${attempt}: it must be what subscribe() made, got ${shown(handler)}`);
      }
      const { name } = handler.subscription;
      requireKeys(`${attempt} "${name}"`, options, addKeys);
      const { from = "now", waitMs = defaultWaitMs } = options ?? {};
      requireMs(`${attempt} "${name}"`, "waitMs", waitMs, maxDelayMs);
      const position = from === "now" ? undefined : requirePosition(`${attempt} "${name}"`, "from", from);
      await database.run("registerSubscriptions", [JSON.stringify([row]), "add"]);
      if (position === undefined) return { position };
      const until = clock.now() + waitMs;
      await publishersEnded(name, until);
      return { position: await fill(name, position, until) };
    },

    async removeSubscription(name, options) {
      const attempt = "Cannot remove subscription";
      requireSubscriptionName(attempt, name);
      requireKeys(`${attempt} "${name}"`, options, removeKeys);
      const { deliveries, by } = (options ?? {}) as Partial<RemoveSubscriptionOptions>;
      if (deliveries !== "keep" && deliveries !== "cancel") {
        throw new TypeError(`${attempt} "${name}": deliveries must be "keep" or "cancel", got ${shown(deliveries)}`);
      }
      const [row] = await database.run<{ changed: boolean }>("removeSubscription", [name]);
      const filter = { name: deliveryPrefix + name };
      const cancelled = deliveries === "cancel" ? await parts.cancel(filter, { by }) : undefined;
      return { removed: row?.changed === true, cancelled };
    },
  };
}

/**
 * Stores the subscriptions of handlers: as their definition where a worker starts, else only where they are not there.
 */
export async function registerSubscriptions(
  database: Database,
  handlers: readonly Handler[],
  mode: "declare" | "see",
): Promise<void> {
  const rows = handlers.map(subscriptionRow).filter((row) => row !== undefined);
  if (rows.length > 0) await database.run("registerSubscriptions", [JSON.stringify(rows), mode]);
}
