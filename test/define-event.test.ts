import * as v from "valibot";
import { expect, test } from "vitest";
import {
  defineCommand,
  defineEvent,
  defineEvents,
  type HandlerContext,
  type NewEvent,
  type RecordedEvent,
  subscribe,
} from "../src/index.ts";

const orderPlaced = defineEvent({
  topic: "orders.events.order_placed",
  data: v.object({ orderId: v.string(), total: v.optional(v.pipe(v.number(), v.transform(String)), 0) }),
});
const invoicePaid = defineEvent({ topic: "billing.invoice_paid", data: v.object({ cents: v.number() }) });
const noted = defineEvent({ topic: "noted" });
const orders = defineEvents("orders.events", {
  OrderPlaced: { data: v.object({ orderId: v.string() }) },
  shipped: {},
});

/** Compiles only where both are the same type. */
type Same<A, B> = (<T>() => T extends A ? 1 : 2) extends <T>() => T extends B ? 1 : 2 ? true : false;
declare function same<A, B>(proof: Same<A, B>): void;

/** Never called: the compiler reads it. */
export function types({ publish, finish }: HandlerContext<unknown, [output: { receipt: string }]>, db: never) {
  orderPlaced({ orderId: "o" });
  orderPlaced({ orderId: "o", total: 2 }, { id: "…", metadata: { source: "shop" } });
  noted();
  noted({ any: ["json"] });
  // @ts-expect-error a wrong type
  orderPlaced({ orderId: 1 });
  // @ts-expect-error a missing property
  orderPlaced({});
  // @ts-expect-error a property that the schema does not know
  orderPlaced({ orderId: "o", more: 1 });
  // @ts-expect-error no data
  orderPlaced();
  // @ts-expect-error an option that does not exist
  orderPlaced({ orderId: "o" }, { priority: 1 });
  // @ts-expect-error without a schema it must be JSON at least
  noted({ at: new Date() });
  // @ts-expect-error a wrong type, under a key
  orders.OrderPlaced({ orderId: 1 });
  // @ts-expect-error there is no such event
  void orders.OrderLost;
  same<(typeof orders)["OrderPlaced"]["topic"], "orders.events.order_placed">(true);
  same<(typeof orders)["shipped"]["topic"], "orders.events.shipped">(true);
  const derived = defineEvents("a.b", {
    OrderPlacedEvent: {},
    Event: {},
    HTTPFailed: {},
    to2: {},
    own: { topic: "c" },
  });
  same<(typeof derived)["OrderPlacedEvent"]["topic"], "a.b.order_placed">(true);
  same<(typeof derived)["Event"]["topic"], "a.b.event">(true);
  same<(typeof derived)["own"]["topic"], "c">(true);
  // Where capitals follow each other, or there are digits, the rest is any string.
  same<(typeof derived)["HTTPFailed"]["topic"], `a.b.${string}`>(true);
  same<(typeof derived)["to2"]["topic"], `a.b.to${string}`>(true);
  // @ts-expect-error a slip of the pen in a definition
  defineEvents("a", { B: { dato: v.string() } });
  // @ts-expect-error a slip of the pen in a definition
  defineEvent({ topic: "a", schema: v.string() });

  publish(orderPlaced({ orderId: "o" }), noted());
  // @ts-expect-error a contract that nobody called
  publish(orderPlaced);
  // @ts-expect-error a command is no event
  publish(defineCommand({ name: "a" })());
  void finish(db, { receipt: "r" });
  void finish(db, { receipt: "r" }, { append: [{ stream: "s", events: noted(), expectedVersion: 0 }] });
  // @ts-expect-error a wrong output
  void finish(db, { receipt: 1 });
  // @ts-expect-error no stream
  void finish(db, { receipt: "r" }, { append: [{ events: noted() }] });

  subscribe({
    name: "one",
    to: orderPlaced,
    handler: ({ event, attempt }) => {
      same<typeof event.data, { orderId: string; total: string }>(true);
      same<typeof event.topic, "orders.events.order_placed">(true);
      same<typeof attempt, number>(true);
    },
  });
  subscribe({
    name: "two",
    to: [orderPlaced, invoicePaid],
    handler: ({ event }) => {
      if (event.topic === "billing.invoice_paid") same<typeof event.data, { cents: number }>(true);
      else same<typeof event.data, { orderId: string; total: string }>(true);
      // @ts-expect-error only one of the two has it
      void event.data.cents;
    },
  });
  subscribe({
    name: "raw",
    to: "orders.#",
    handler: ({ event }) => {
      same<typeof event, RecordedEvent>(true);
      same<typeof event.data, unknown>(true);
      if (invoicePaid.is(event)) same<typeof event.data, { cents: number }>(true);
    },
  });
  // @ts-expect-error its deliveries have no input
  subscribe({ name: "none", to: "a", handler: ({ input }) => input });
  // @ts-expect-error a wrong option
  subscribe({ name: "none", to: "a", handler: () => {}, concurrency: 1 });
  defineCommand({ name: "hooked" }).handle(() => {}, { onSuccess: () => [noted(), defineCommand({ name: "b" })()] });
  // @ts-expect-error neither a command nor an event
  defineCommand({ name: "hooked" }).handle(() => {}, { onSuccess: () => [1] });
}

test("defineEvent() makes a function that makes frozen events", () => {
  const data = { orderId: "o" };
  const event: NewEvent = orderPlaced(data, { metadata: { source: "shop" } });
  expect({ ...event }).toEqual({ contract: orderPlaced, data, options: { metadata: { source: "shop" } } });
  expect(event.data).toBe(data);
  expect(Object.isFrozen(event) && Object.isFrozen(event.options)).toBe(true);
  expect(orderPlaced.topic).toBe("orders.events.order_placed");
  expect(orderPlaced.is({ topic: orderPlaced.topic } as RecordedEvent)).toBe(true);
  expect(orderPlaced.is({ topic: "noted" } as RecordedEvent)).toBe(false);
});

test("defineEvents() makes topics of a prefix and the keys", () => {
  const events = defineEvents("a.b", {
    OrderPlaced: {},
    orderShippedEvent: {},
    HTTPFailed: {},
    Event: {},
    to2: {},
    own: { topic: "c" },
  });
  expect(Object.values(events).map(({ topic }) => topic)).toEqual([
    "a.b.order_placed",
    "a.b.order_shipped",
    "a.b.http_failed",
    "a.b.event",
    "a.b.to2",
    "c",
  ]);
  expect(() => defineEvents("a", { OrderPlaced: {}, orderPlaced: {} })).toThrow(
    'Cannot define events: "OrderPlaced" and "orderPlaced" both give the topic "a.order_placed"',
  );
});

test.each([
  ["", "topic must have 1 to 200 characters, got 0"],
  ["a".repeat(201), "topic must have 1 to 200 characters, got 201"],
  ["a..b", 'topic must be levels between dots, none empty, without white space, got "a..b"'],
  [".a", 'topic must be levels between dots, none empty, without white space, got ".a"'],
  ["a b", 'topic must be levels between dots, none empty, without white space, got "a b"'],
  ["a\0", "topic must be levels between dots"],
  ["a.b.c.d.e.f.g.h.i", "topic must have at most 8 levels, got 9"],
  ["a.*", 'topic must be free of "*" and "#", which patterns have, got "a.*"'],
  ["a.b#", 'topic must be free of "*" and "#"'],
  ["\ud800", "topic must be well-formed Unicode"],
  [1, "topic must be a string, got 1"],
])("defineEvent() refuses the topic %j", (topic, message) => {
  expect(() => defineEvent({ topic: topic as string })).toThrow(`Cannot define event: ${message}`);
});

test("defineEvent() and defineEvents() say what a definition has, and what to do with a bare schema", () => {
  const schema = v.object({});
  expect(() => defineEvent({ topic: "a.b", schema } as never)).toThrow(
    'Cannot define event "a.b": there is no option "schema", only topic, data',
  );
  expect(() => defineEvents("a", { B: { dato: schema } } as never)).toThrow(
    'Cannot define event "a.b": there is no option "dato", only topic, data',
  );
  expect(() => defineEvents("a", { B: schema } as never)).toThrow(
    'Cannot define event "B": a definition must be an object, got a schema: wrap it: { data: schema }',
  );
  // As those of arktype are.
  const callable = Object.assign(() => {}, schema);
  expect(() => defineEvent(callable as never)).toThrow("got a schema: wrap it: { data: schema }");
  expect(() => defineEvent(5 as never)).toThrow("Cannot define event: a definition must be an object, got 5");
});

test.each([
  ["a.#.b", 'pattern must have "*" only as a whole level, and "#" only as the last one, got "a.#.b"'],
  ["a*", 'pattern must have "*" only as a whole level'],
  ["a.b#", 'pattern must have "*" only as a whole level'],
  ["a..#", "pattern must be levels between dots"],
  ["a.b.c.d.e.f.g.h.i", "pattern must have at most 8 levels, got 9"],
  ["a.b.c.d.e.f.g.h.i.#", "pattern must have at most 8 levels, got 9"],
  [[], "to must be a pattern, a contract or 1 to 100 of them, got 0"],
  [[1], "to must be patterns or contracts of events, got 1"],
])("subscribe() refuses the target %j", (to, message) => {
  expect(() => subscribe({ name: "a", to: to as string, handler: () => {} })).toThrow(
    `Cannot subscribe "a": ${message}`,
  );
});

test("subscribe() takes every pattern that a topic may match", () => {
  for (const to of ["#", "*", "a.*.b", "*.*.#", "a.b.c.d.e.f.g.h", "a.b.c.d.e.f.g.h.#"]) {
    expect(subscribe({ name: "a", to, handler: () => {} }).subscription?.patterns).toEqual([to]);
  }
  const both = subscribe({ name: "a", to: [orderPlaced, "b", orderPlaced.topic, "b"], handler: () => {} });
  expect(both.subscription?.patterns).toEqual(["b", orderPlaced.topic]);
  expect(both.contract.name).toBe("deliver:a");
});

test.each([
  [{ name: "a b" }, 'Cannot subscribe: name must be free of white space and control characters, got "a b"'],
  [{ name: "a".repeat(101) }, "Cannot subscribe: name must have 1 to 100 characters, got 101"],
  [{ handler: 1 }, 'Cannot subscribe "a": handler must be a function, got 1'],
  [{ retrys: 1 }, 'Cannot subscribe "a": there is no option "retrys", only name, '],
  [{ retries: -1 }, "retries must be an integer from 0 to 32766, got -1"],
  [{ queue: "a b" }, "queue must be free of white space"],
])("subscribe() refuses %j", (wrong, message) => {
  expect(() => subscribe({ name: "a", to: "#", handler: () => {}, ...(wrong as object) })).toThrow(message);
});
