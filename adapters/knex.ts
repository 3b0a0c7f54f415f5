/**
 * Knex (the npm package `knex`), with its client `pg`: pushing inside its transactions.
 *
 * Statements run on the transaction's connection and not by `raw`, which has its own marks for parameters and passes
 * results through `postProcessResponse`, where names of columns are often changed.
 */
import type { Param, Queryable } from "../src/driver.ts";

/** The part of a transaction of Knex that the adapter uses. */
export interface KnexTransaction {
  readonly client: {
    acquireConnection(): any;
    releaseConnection(connection: any): unknown;
  };
  /** What a transaction has, and Knex itself has not. */
  isCompleted?(): boolean;
}

/**
 * @example
 * await knex.transaction(async (trx) => {
 *   await trx("users").insert({ email });
 *   await orchestrator.push(sendEmail({ to: email }), { db: knexTransaction(trx) });
 * });
 */
export function knexTransaction(transaction: KnexTransaction): Queryable {
  const { client } = transaction;
  // Its connection may be in somebody else's transaction by then.
  const requireOpen = (): void => {
    if (transaction.isCompleted?.()) throw new Error("Cannot run a statement: its transaction is complete");
  };
  return {
    async query<Row>(text: string, params: readonly Param[]): Promise<Row[]> {
      requireOpen();
      // Within a transaction this is its own connection, and releasing it does nothing.
      const connection = await client.acquireConnection();
      try {
        requireOpen();
        return (await connection.query({ text, values: [...params] })).rows as Row[];
      } finally {
        await client.releaseConnection(connection);
      }
    },
  };
}
