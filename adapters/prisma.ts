/** Prisma (the npm package `@prisma/client`) on PostgreSQL: pushing inside its interactive transactions. */
import type { Param, Queryable } from "../src/driver.ts";

/** The part of a client or a transaction of Prisma that the adapter uses. */
export interface PrismaTransaction {
  $queryRawUnsafe(text: string, ...params: any[]): PromiseLike<unknown>;
}

/**
 * @example
 * await prisma.$transaction(async (tx) => {
 *   await tx.user.create({ data: { email } });
 *   await orchestrator.push(sendEmail({ to: email }), { db: prismaTransaction(tx) });
 * });
 */
export function prismaTransaction(transaction: PrismaTransaction): Queryable {
  return {
    async query<Row>(text: string, params: readonly Param[]): Promise<Row[]> {
      try {
        return (await transaction.$queryRawUnsafe(text, ...params)) as Row[];
      } catch (error) {
        const code = sqlState(error);
        throw code === undefined
          ? error
          : Object.assign(new Error((error as Error).message, { cause: error }), { code });
      }
    },
  };
}

/** Prisma's own codes stand in the place of the server's, which are further down: with driver adapters, and before them. */
function sqlState(error: unknown): string | undefined {
  const { meta } = error as {
    meta?: { code?: unknown; driverAdapterError?: { cause?: { originalCode?: unknown } } };
  };
  const code = meta?.driverAdapterError?.cause?.originalCode ?? meta?.code;
  return typeof code === "string" ? code : undefined;
}
