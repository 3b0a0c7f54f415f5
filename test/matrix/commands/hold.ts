/** A command that is held for as long as the test holds a lock in the database, or until its signal is aborted. */
import { defineCommand } from "orchestratum";
import postgres from "postgres";

export const lock = 4711;

export const hold = defineCommand({ name: "hold", timeoutMs: 600_000, retries: 5 });

/** Exported for `handlersFrom()`: the URL is known only when it runs. */
export const handleHold = hold.handle(async ({ input, signal }) => {
  console.log("holding");
  const sql = postgres(input as string, { max: 1, fetch_types: false });
  const aborted = new Promise<never>((_, reject) => {
    signal.addEventListener("abort", () => reject(signal.reason), { once: true });
  });
  try {
    await Promise.race([sql`select pg_advisory_lock_shared(${lock}::bigint)`, aborted]);
  } finally {
    void sql.end({ timeout: 0 });
  }
});
