/**
 * A table of orders as a page would show them, made of nothing but events. A batch and the checkpoint commit together, so
 * each event is in it once, and a process that dies leaves nothing half done.
 */
import type { Orchestrator } from "orchestratum";
import { orders } from "./contracts.ts";
import type { Store } from "./store.ts";

const { OrderPlaced, StockReserved, OrderConfirmed } = orders;

export const startSummary = (orchestrator: Orchestrator, { transaction }: Store) =>
  orchestrator.startReader({
    name: "order_summary",
    topics: "orders.events.*",
    events: [OrderPlaced, StockReserved, OrderConfirmed],
    handle: (events, { checkpoint }) =>
      transaction(async (tx) => {
        for (const event of events) {
          if (OrderPlaced.is(event)) {
            const { order, customer, cents } = event.data;
            const insert = "insert into shop_order_summary (id, customer, cents) values ($1, $2, $3)";
            await tx.query(insert, [order, customer, cents]);
          } else if (StockReserved.is(event)) {
            await tx.query("update shop_order_summary set is_reserved = true where id = $1", [event.data.order]);
          } else if (OrderConfirmed.is(event)) {
            await tx.query("update shop_order_summary set is_confirmed = true where id = $1", [event.data.order]);
          }
        }
        await checkpoint(tx);
      }),
  });

export interface OrderSummary {
  readonly customer: string;
  readonly cents: number;
  readonly is_reserved: boolean;
  readonly is_confirmed: boolean;
}

/** Undefined where the projection has not come as far. */
export async function summaryOf({ database }: Store, order: string): Promise<OrderSummary | undefined> {
  const text = "select customer, cents, is_reserved, is_confirmed from shop_order_summary where id = $1";
  const [summary] = await database.query<OrderSummary>(text, [order]);
  return summary;
}
