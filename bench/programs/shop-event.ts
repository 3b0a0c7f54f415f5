/** The event that the benchmark of events publishes, delivers, appends and reads: as large as an order's would be. */
import { defineCommand, defineEvent } from "../../src/index.ts";

export const orderPlaced = defineEvent({ topic: "shop.orders.placed" });
/** The same as a command. */
export const placeOrder = defineCommand({ name: "place_order" });

export const orderOf = (n: number) => ({
  order: `order-${n}`,
  customer: `customer-${n % 997}@example.com`,
  cents: 100 + (n % 10_000),
  lines: [
    { product: "lamp", pieces: 1 + (n % 3) },
    { product: "desk", pieces: 1 },
  ],
});
