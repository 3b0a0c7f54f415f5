import type { Sql } from "postgres";
import type { HandlerContext } from "../src/index.ts";

/** Runs until the lease that it began with has been extended by a heartbeat, or the attempt is aborted. */
export async function outliveLease(
  sql: Sql,
  leaseMs: number,
  { id, signal }: Pick<HandlerContext, "id" | "signal">,
): Promise<void> {
  const isExtended = async () => {
    const [row] = await sql`
      select available_at > started_at + ${leaseMs} * interval '1 millisecond' as is
      from orchestratum.command where id = ${id}`;
    return row?.is;
  };
  while (!signal.aborted && !(await isExtended())) await new Promise((resolve) => setTimeout(resolve, 50));
  signal.throwIfAborted();
}
