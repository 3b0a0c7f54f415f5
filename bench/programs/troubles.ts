/** An observer that says on stderr what should not happen in a benchmark: a loop that failed would else look like a slow one. */
import { observing } from "../../src/index.ts";

export const sayTroubles = observing(
  ["database_trouble", "database_unresponsive", "event_loop_blocked", "internal_error", "lease_lost"],
  (observation) => console.error(observation),
);
