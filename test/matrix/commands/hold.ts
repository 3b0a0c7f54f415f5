/** A command that is held for as long as the test holds a lock in the database, or until its signal is aborted. */
import { defineCommand } from "orchestratum";
import postgres from "postgres";

export const lock = 4711;

export const hold = defineCommand({ name: "hold", timeoutMs: 600_000, retries: 5 });

/** Its input is the URL of the database. */
export const handleHold = hold.handle(async ({ input, signal }) => {
  console.log("holding");
  const sql = postgres(input as string, { max: 1, fetch_types: false });
  try {
    for (let free = false; !free; ) {
      signal.throwIfAborted();
      await new Promise((resolve) => setTimeout(resolve, 20));
      // Not one that waits in the server: its connection could not be closed until then.
      const [row] = await sql<{ free: boolean }[]>`select pg_try_advisory_xact_lock_shared(${lock}::bigint) as free`;
      free = row?.free === true;
    }
  } finally {
    await sql.end();
  }
});
