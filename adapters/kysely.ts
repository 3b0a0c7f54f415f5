/** Kysely (the npm package `kysely`), with a dialect of PostgreSQL: pushing inside its transactions. */
import type { Param, Queryable } from "../src/driver.ts";

/** The part of a database or a transaction of Kysely that the adapter uses. */
export interface KyselyTransaction {
  withoutPlugins(): { executeQuery(query: any): Promise<{ rows: unknown[] }> };
}

let count = 0;

/**
 * @example
 * await db.transaction().execute(async (trx) => {
 *   await trx.insertInto("users").values({ email }).execute();
 *   await orchestrator.push(sendEmail({ to: email }), { db: kyselyTransaction(trx) });
 * });
 */
export function kyselyTransaction(transaction: KyselyTransaction): Queryable {
  // Plugins change the names of columns (`CamelCasePlugin`).
  const plain = transaction.withoutPlugins();
  return {
    async query<Row>(text: string, params: readonly Param[]): Promise<Row[]> {
      // What Kysely's own `CompiledQuery.raw` makes.
      const { rows } = await plain.executeQuery({
        sql: text,
        parameters: params,
        query: { kind: "RawNode", sqlFragments: [text], parameters: [] },
        queryId: { queryId: `orchestratum-${++count}` },
      });
      return rows as Row[];
    },
  };
}
