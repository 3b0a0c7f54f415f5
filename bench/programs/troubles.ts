/** An observer that says on stderr what should not happen in a benchmark: a loop that failed would else look like a slow one. */
import type { Observation } from "../../src/index.ts";

const troubles: ReadonlySet<Observation["type"]> = new Set([
  "database_trouble",
  "database_unresponsive",
  "event_loop_blocked",
  "internal_error",
  "lease_lost",
] as const);

export function sayTroubles(observation: Observation): void {
  if (troubles.has(observation.type)) console.error(observation);
}
