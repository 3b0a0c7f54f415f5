/**
 * Drizzle (the npm package `drizzle-orm`), on whatever driver of PostgreSQL: pushing inside its transactions.
 *
 * Drizzle asks what it is to execute for its SQL, and that for its text: an object that answers both is all that is
 * needed, and nothing of Drizzle is imported.
 */
import type { Param, Queryable } from "../src/driver.ts";

/** The part of a database or a transaction of Drizzle that the adapter uses. */
export interface DrizzleTransaction {
  // What it answers, and whether that is awaited or built on, depends on the driver below.
  execute(query: any): PromiseLike<unknown>;
}

/**
 * @example
 * await db.transaction(async (tx) => {
 *   await tx.insert(users).values({ email });
 *   await orchestrator.push(sendEmail({ to: email }), { db: drizzleTransaction(tx) });
 * });
 */
export function drizzleTransaction(transaction: DrizzleTransaction): Queryable {
  return {
    async query<Row>(text: string, params: readonly Param[]): Promise<Row[]> {
      const statement = { toQuery: () => ({ sql: text, params: [...params] }) };
      try {
        const result = await transaction.execute({ getSQL: () => statement });
        return (Array.isArray(result) ? [...result] : (result as { rows: unknown[] }).rows) as Row[];
      } catch (error) {
        // Its own error has the SQLSTATE one step down, and the parameters in its message.
        throw (error as { cause?: unknown }).cause ?? error;
      }
    },
  };
}
