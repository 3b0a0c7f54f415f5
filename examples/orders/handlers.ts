/** Who takes orders, who sends confirmations, and who keeps the stock: none of them knows of the others. */
import { type Handler, subscribe } from "orchestratum";
import { orders, placeOrder } from "./contracts.ts";
import type { Store } from "./store.ts";

/** What an e-mail service's client looks like. It sends one message a key, however often it is asked to. */
export interface Mailer {
  send(message: { readonly key: string; readonly to: string; readonly text: string }): Promise<void>;
}

export const handlersOf = ({ transaction }: Store, mailer: Mailer): Handler[] => [
  // The order's row, the event and the command's outcome commit together.
  placeOrder.handle(({ input, publish, finish }) =>
    transaction(async (tx) => {
      const { order, customer, cents } = input;
      await tx.query("insert into shop_order (id, customer, cents) values ($1, $2, $3)", [order, customer, cents]);
      const [placed] = publish(orders.OrderPlaced(input));
      return await finish(tx, { event: placed?.id ?? "" });
    }),
  ),

  // What leaves the database is done at least once: the delivery's id tells the service that it is the same message.
  subscribe({
    name: "confirmation",
    to: orders.OrderPlaced,
    retries: 1,
    backoff: { initialMs: 50 },
    handler: async ({ event, id, publish }) => {
      const { customer, order } = event.data;
      await mailer.send({ key: id, to: customer, text: `We have your order ${order}` });
      publish(orders.OrderConfirmed({ order }));
    },
  }),

  // The same database: the piece is taken once, however often this runs.
  subscribe({
    name: "inventory",
    to: orders.OrderPlaced,
    handler: ({ event, publish, finish }) =>
      transaction(async (tx) => {
        await tx.query("update shop_stock set pieces = pieces - 1 where product = $1", [event.data.product]);
        publish(orders.StockReserved({ order: event.data.order }));
        return await finish(tx);
      }),
  }),
];
