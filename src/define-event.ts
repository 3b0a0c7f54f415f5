/**
 * Contracts of events: a topic, and what an event of it says. An event is a fact: it addresses nobody, never changes,
 * and no handler can reject it. Its contract imports nothing of who publishes or subscribes, so both can share it.
 */
import { isKind, kind, type Metadata } from "./command.ts";
import { type InputOf, type ParsedInputOf, requireSchema, snakeCase } from "./define-command.ts";
import { type Keys, requireKeys, requireObject, shown } from "./limits.ts";
import type { RecordedEvent } from "./recorded-event.ts";
import type { StandardSchemaV1 } from "./standard-schema.ts";
import { requireTopic } from "./topic.ts";

/** A schema, or none. */
type Schema = StandardSchemaV1 | undefined;

/** What may be said about an event besides its data. What is undefined counts as not said. */
export interface EventOptions {
  /**
   * A UUID of the caller's, by which publishing can be repeated without doubling the event. Events that commit with an
   * outcome cannot have one.
   *
   * @default a new UUID of version 7
   */
  readonly id?: string | undefined;
  /** What travels along the chain, laid key by key over what is inherited. At most 8 KiB as JSON. */
  readonly metadata?: Metadata | undefined;
}

/** What `defineEvents` takes for each event: a definition whose topic may be left to prefix and key. */
export interface EventDefinition<Data extends Schema = Schema> {
  /** One to eight levels between dots, 200 characters at most: `orders.events.order_placed`. Stored with every event. */
  readonly topic?: string | undefined;
  /** Any Standard Schema (valibot, zod, arktype). Stored is what the caller gave; subscribers get what it answers. */
  readonly data?: Data;
}

/** Any contract of events, whatever its types. */
export interface AnyEventContract {
  readonly [kind]: "event contract";
  readonly topic: string;
  readonly data: Schema;
}

/** An event, as calling its contract makes it: not published yet. Frozen. */
export interface NewEvent {
  readonly contract: AnyEventContract;
  /** What the caller gave, neither validated nor copied yet: publish does both. */
  readonly data: unknown;
  readonly options: EventOptions;
}

/** What a contract is called with: the data may be left out where it may be undefined. */
type Arguments<Data> = undefined extends Data
  ? [data?: Data, options?: EventOptions]
  : [data: Data, options?: EventOptions];

/** A contract of events: called with data and options it makes an event. Made by {@link defineEvent}. */
export interface EventContract<Topic extends string = string, Data extends Schema = undefined>
  extends AnyEventContract {
  /** Makes an event. The data is validated by publish, before any I/O. @throws TypeError for an option that is none. */
  (...args: Arguments<InputOf<Data>>): NewEvent;
  readonly topic: Topic;
  readonly data: Data;
  /**
   * Whether an event that was read or delivered is one of this topic. Its data is as the schema answers it where the
   * read, or the subscription, was given this contract; elsewhere it is as it was published.
   */
  is(event: RecordedEvent): event is RecordedEvent<ParsedInputOf<Data>> & { readonly topic: Topic };
}

const noOptions: EventOptions = Object.freeze({});
const eventKeys: Keys<EventOptions> = { id: true, metadata: true };
const definitionKeys: Keys<EventDefinition> = { topic: true, data: true };

/**
 * Defines an event: its topic, and the schema of its data.
 *
 * @throws TypeError or RangeError for a definition that is out of its limits.
 * @example
 * const orderPlaced = defineEvent({
 *   topic: "orders.events.order_placed",
 *   data: v.object({ orderId: v.string(), total: v.number() }),
 * });
 * await orchestrator.publish(orderPlaced({ orderId: "o-1", total: 12 }));
 */
export function defineEvent<const Topic extends string, Data extends Schema = undefined>(
  definition: EventDefinition<Data> & { readonly topic: Topic },
): EventContract<Topic, Data> {
  requireDefinition("Cannot define event", definition);
  const { topic, data } = definition;
  requireTopic("Cannot define event", topic);
  const attempt = `Cannot define event "${topic}"`;
  requireKeys(attempt, definition, definitionKeys);
  requireSchema(attempt, "data", data);

  const making = `Cannot make event "${topic}"`;
  const contract = (...[value, options]: [value?: unknown, options?: EventOptions]): NewEvent => {
    requireKeys(making, options, eventKeys);
    return Object.freeze({
      contract: result,
      data: value,
      options: options === undefined ? noOptions : Object.freeze({ ...options }),
    });
  };
  const result = contract as unknown as EventContract<Topic, Data>;
  const properties = {
    [kind]: "event contract",
    topic,
    data,
    is: (event: RecordedEvent) => event.topic === topic,
  };
  for (const key of Reflect.ownKeys(properties) as (keyof typeof properties)[]) {
    Object.defineProperty(contract, key, { value: properties[key], enumerable: true });
  }
  return Object.freeze(result);
}

/** Refuses what is no object, and a schema that stands where a definition should. */
function requireDefinition(attempt: string, value: unknown): void {
  if ((value as Partial<StandardSchemaV1> | null | undefined)?.["~standard"] !== undefined) {
    throw new TypeError(`${attempt}: a definition must be an object, got a schema: wrap it: { data: schema }`);
  }
  requireObject(attempt, "a definition", value);
}

/** The schema of a definition, if any. */
type SchemaOf<D> = D extends { readonly data: infer S extends StandardSchemaV1 } ? S : undefined;
/** The topic of a definition: the one that it has, or what its key gives. */
type TopicOf<Prefix extends string, Key, D> = D extends { readonly topic: infer T extends string }
  ? T
  : Key extends string
    ? `${Prefix}.${Key extends `${infer Head}Event` ? (Head extends "" ? "event" : SnakeCase<Head>) : SnakeCase<Key>}`
    : string;

type Lower =
  | ("a" | "b" | "c" | "d" | "e" | "f" | "g" | "h" | "i" | "j" | "k" | "l" | "m")
  | ("n" | "o" | "p" | "q" | "r" | "s" | "t" | "u" | "v" | "w" | "x" | "y" | "z");

/**
 * What `snakeCase` makes of a key, as a type, so that events of two keys are told apart by their topics. It is written out
 * up to the first character that is no single capital or small letter of ASCII: what comes then is any string.
 */
type SnakeCase<Key extends string, Done extends string = "", Between extends string = ""> = Key extends ""
  ? Done
  : Key extends `${infer First}${infer Rest}`
    ? First extends Lower
      ? SnakeCase<Rest, `${Done}${First}`, "_">
      : First extends Uppercase<Lower>
        ? Rest extends `${Lower}${string}`
          ? SnakeCase<Rest, `${Done}${Between}${Lowercase<First>}`>
          : `${Done}${string}`
        : `${Done}${string}`
    : string;

/** The contracts that `defineEvents` makes, under the keys of their definitions. */
export type EventContracts<D, Prefix extends string = string> = {
  readonly [Key in keyof D]: EventContract<TopicOf<Prefix, Key, D[Key]>, SchemaOf<D[Key]>>;
};

/**
 * Defines several events at once, their topics made of a prefix and their keys in snake_case without the suffix
 * `Event`: under `"orders.events"`, `OrderPlaced` is `orders.events.order_placed`. A `topic` in the definition wins,
 * and is the whole of it.
 *
 * @throws TypeError where two keys give one topic, TypeError or RangeError for a definition that is out of its limits.
 * @example
 * const orders = defineEvents("orders.events", {
 *   OrderPlaced: { data: v.object({ orderId: v.string() }) },
 *   OrderShipped: { data: v.object({ orderId: v.string() }) },
 * });
 * orders.OrderPlaced.topic; // "orders.events.order_placed"
 */
export function defineEvents<
  const D extends Readonly<Record<string, EventDefinition>>,
  const Prefix extends string = string,
>(
  prefix: Prefix,
  // That there are no other keys the constraint alone cannot say, since what a type parameter is inferred from may have any.
  definitions: D & {
    readonly [Key in keyof D]: { readonly [Slip in Exclude<keyof D[Key], keyof EventDefinition>]: never };
  },
): EventContracts<D, Prefix> {
  requireTopic("Cannot define events with this prefix", prefix);
  requireObject("Cannot define events", "definitions", definitions);
  const contracts: Record<string, AnyEventContract> = {};
  const keys = new Map<string, string>();
  for (const [key, definition] of Object.entries<EventDefinition>(definitions)) {
    requireDefinition(`Cannot define event ${shown(key)}`, definition);
    const topic = definition.topic ?? `${prefix}.${snakeCase(key.replace(/(?<=.)Event$/, ""))}`;
    const other = keys.get(topic);
    if (other !== undefined) {
      throw new TypeError(`Cannot define events: "${other}" and "${key}" both give the topic "${topic}"`);
    }
    keys.set(topic, key);
    contracts[key] = defineEvent({ ...definition, topic });
  }
  return contracts as EventContracts<D, Prefix>;
}

/** Whether `value` is a contract of events. Never throws. */
export function isEventContract(value: unknown): value is AnyEventContract {
  return isKind(value, "event contract");
}

/** Whether `value` is an event that a contract made. Never throws. */
export function isNewEvent(value: unknown): value is NewEvent {
  try {
    return typeof value === "object" && value !== null && isEventContract((value as NewEvent).contract);
  } catch {
    return false;
  }
}
