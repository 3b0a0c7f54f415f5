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
}

/**
 * @example
 * await knex.transaction(async (trx) => {
 *   await trx("users").insert({ email });
 *   await orchestrator.push(sendEmail({ to: email }), { db: knexTransaction(trx) });
 * });
 */
export function knexTransaction({ client }: KnexTransaction): Queryable {
  return {
    async query<Row>(text: string, params: readonly Param[]): Promise<Row[]> {
      // Within a transaction this is its own connection, and releasing it does nothing.
      const connection = await client.acquireConnection();
      try {
        return (await connection.query({ text, values: [...params] })).rows as Row[];
      } finally {
        await client.releaseConnection(connection);
      }
    },
  };
}
