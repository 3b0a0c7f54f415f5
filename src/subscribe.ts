/**
 * Subscriptions: a named interest in events, with the handler of its deliveries. A delivery is a command, named
 * `deliver:<subscription>`, so leases, retries, timeouts, dead letters and everything that may be asked of commands
 * hold for it. What it carries is a copy of the event, or where that is over 8 KiB its id: then the event is read when
 * the delivery is executed.
 */
import type { Backoff } from "./backoff.ts";
import type { Metadata } from "./command.ts";
import { defineCommand } from "./define-command.ts";
import { type AnyEventContract, isEventContract } from "./define-event.ts";
import { type Awaitable, createHandler, type Handler, type HandlerContext } from "./handler.ts";
import {
  type Keys,
  maxPatterns,
  maxSubscriptionLength,
  requireKeys,
  requireObject,
  requireText,
  shown,
} from "./limits.ts";
import type { HandlerMiddleware } from "./middleware.ts";
import { parseTime } from "./outcome.ts";
import {
  type EventParsers,
  type EventRow,
  type ParsedEvent,
  parsedEvent,
  type RecordedEvent,
} from "./recorded-event.ts";
import { requirePattern } from "./topic.ts";

/** What a subscription chooses: a pattern of topics, or the contract of an event. */
export type SubscriptionTarget = string | AnyEventContract;

/** The events that a subscription gets: typed where contracts are named, raw where a pattern is. */
export type EventOf<To> = To extends readonly (infer One)[]
  ? EventOf<One>
  : To extends AnyEventContract
    ? ParsedEvent<To>
    : RecordedEvent;

/** What the handler of a subscription gets. All but `event` is as for the handler of a command. */
export interface DeliveryContext<out Event = RecordedEvent> extends Omit<HandlerContext<unknown>, "input"> {
  /** The event. Where the subscription names its contract, its data is as that contract's schema answers it. */
  readonly event: Event;
}

export interface SubscriptionDefinition<To = SubscriptionTarget | readonly SubscriptionTarget[], Event = EventOf<To>> {
  /** 1 to 100 characters without white space or control characters. Stored with every delivery: once used, it should not change. */
  readonly name: string;
  /**
   * Which events: a pattern of topics (`*` is one level, `#`, at the end, any number), the contract of an event, or a
   * list of up to 100 of these. An event that several of them match is delivered once.
   */
  readonly to: To;
  /** Is called at least once for each event, in no order. What it returns is not stored; it may snooze or `finish`. */
  readonly handler: (context: DeliveryContext<Event>) => Awaitable<unknown>;
  /**
   * Further attempts after a first one that failed, 0 to 32,766.
   *
   * @default 3
   */
  readonly retries?: number | undefined;
  /**
   * How long a retry waits.
   *
   * @default { initialMs: 5_000, factor: 2, maxMs: 3_600_000, jitter: "full" }
   */
  readonly backoff?: Backoff | undefined;
  /**
   * How long one attempt may take, in ms: 1 to 2,147,483,647.
   *
   * @default 60_000
   */
  readonly timeoutMs?: number | undefined;
  /**
   * Of its deliveries: 1 to 100 characters without white space. Some worker with the handler has to serve it.
   *
   * @default "default"
   */
  readonly queue?: string | undefined;
  /**
   * Of its deliveries: 0 (first) to 9 (last).
   *
   * @default 5
   */
  readonly priority?: number | undefined;
  /** What is laid around its attempts, within the orchestrator's. @default none */
  readonly middleware?: readonly HandlerMiddleware[] | undefined;
}

/** What a handler of deliveries knows of its subscription. */
export interface Subscription {
  readonly name: string;
  /** Patterns, each once; the topics of contracts are among them. */
  readonly patterns: readonly string[];
  readonly parsers: EventParsers;
}

/** The names of the commands that deliver. */
export const deliveryPrefix = "deliver:";

const subscriptionKeys: Keys<SubscriptionDefinition> = {
  name: true,
  to: true,
  handler: true,
  retries: true,
  backoff: true,
  timeoutMs: true,
  queue: true,
  priority: true,
  middleware: true,
};

/**
 * Declares a subscription: a handler for the `handlers` of an orchestrator. Workers store it when they start, and from
 * then on whatever is published is delivered to it, whether a worker is alive or not, until it is removed.
 *
 * @throws TypeError or RangeError for a definition that is out of its limits.
 * @example
 * const sendConfirmation = subscribe({
 *   name: "send_confirmation",
 *   to: orders.OrderPlaced,
 *   handler: async ({ event }) => mailer.confirm(event.data.orderId),
 *   retries: 5,
 * });
 */
export function subscribe<const To extends SubscriptionTarget | readonly SubscriptionTarget[]>(
  definition: SubscriptionDefinition<To>,
): Handler {
  const attempt = "Cannot subscribe";
  requireObject(attempt, "a definition", definition);
  const { name, to, handler, middleware, ...options } = definition;
  requireSubscriptionName(attempt, name);
  const within = `${attempt} "${name}"`;
  requireKeys(within, definition, subscriptionKeys);
  if (typeof handler !== "function") {
    throw new TypeError(`${within}: handler must be a function, got ${shown(handler)}`);
  }
  const { patterns, parsers } = targetsOf(within, to);
  const contract = defineCommand({ name: deliveryPrefix + name, ...options });
  // Deliveries run with the context of any handler, of which `event` is its input by another name.
  const run = handler as unknown as Handler["run"];
  return Object.freeze({
    ...createHandler(contract, run, { middleware }),
    subscription: Object.freeze({ name, patterns, parsers }),
  });
}

/** @throws TypeError and RangeError for what is no name of a subscription. */
export function requireSubscriptionName(attempt: string, name: unknown): asserts name is string {
  requireText(attempt, "name", name, maxSubscriptionLength);
  if (/[\s\p{Cc}]/u.test(name as string)) {
    throw new RangeError(`${attempt}: name must be free of white space and control characters, got ${shown(name)}`);
  }
}

/** The patterns of one target or a list of them, and what parses their events. */
function targetsOf(attempt: string, to: unknown): { patterns: string[]; parsers: EventParsers } {
  const list: readonly unknown[] = Array.isArray(to) ? to : [to];
  if (list.length === 0 || list.length > maxPatterns) {
    throw new RangeError(
      `${attempt}: to must be a pattern, a contract or 1 to ${maxPatterns} of them, got ${list.length}`,
    );
  }
  const parsers = new Map<string, AnyEventContract>();
  const patterns = list.map((target) => {
    if (isEventContract(target)) {
      parsers.set(target.topic, target);
      return target.topic;
    }
    if (typeof target !== "string") {
      throw new TypeError(`${attempt}: to must be patterns or contracts of events, got ${shown(target)}`);
    }
    requirePattern(attempt, target);
    return target;
  });
  return { patterns: [...new Set(patterns)].toSorted(), parsers };
}

/** A delivery as it is pushed: what there is of the event, or where it is too large to be copied its id and `stored`. */
interface Delivered extends Pick<EventRow, "id" | "topic" | "appended_at"> {
  readonly stream?: string;
  readonly version?: number;
  readonly data?: unknown;
  readonly metadata?: Metadata;
  readonly stored?: boolean;
}

/**
 * The event of a delivery; at once where it was copied and its contract answers at once. `read` reads one from the store.
 *
 * @throws InvalidEventError where its data is not what the subscription's contract of its topic takes.
 */
export function deliveredEvent(
  { parsers }: Subscription,
  input: unknown,
  read: (id: string) => Promise<RecordedEvent>,
): RecordedEvent | Promise<RecordedEvent> {
  const delivered = input as Delivered;
  const { id, topic, data, stream, version } = delivered;
  if (delivered.stored) return read(id).then((event) => parsedEvent(event, parsers));
  const event: RecordedEvent = {
    id,
    topic,
    data,
    metadata: { correlationId: id, ...delivered.metadata },
    stream,
    version,
    position: undefined,
    appendedAt: parseTime(delivered.appended_at),
  };
  return parsedEvent(event, parsers);
}
