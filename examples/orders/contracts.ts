/** What the parts of the shop say to each other: they share this file, and nothing else. */
import { defineCommand, defineEvents } from "orchestratum";
import * as v from "valibot";

const order = v.object({ order: v.string(), customer: v.string(), product: v.string(), cents: v.number() });

/** Tells one handler to do something, and answers. */
export const placeOrder = defineCommand({
  name: "place_order",
  input: order,
  output: v.object({ event: v.string() }),
});

/** Say that something has happened, to whoever cares: topics orders.events.order_placed, and so on. */
export const orders = defineEvents("orders.events", {
  OrderPlaced: { data: order },
  StockReserved: { data: v.object({ order: v.string() }) },
  OrderConfirmed: { data: v.object({ order: v.string() }) },
});
