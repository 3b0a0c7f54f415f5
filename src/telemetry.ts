/**
 * What looks on at an orchestrator as a whole, as `openTelemetry()` of `orchestratum/opentelemetry` does: the seams it
 * needs, in one object, so that it is switched on in one place.
 */
import type { Middleware } from "./middleware.ts";
import type { Observer } from "./observation.ts";
import type { EventStore } from "./readers.ts";
import type { Statistics } from "./statistics.ts";

export interface Telemetry {
  /** Laid around all other middleware. */
  readonly middleware: Middleware;
  /** Receives what is observed. */
  readonly observe: Observer;
  /** Told of the orchestrator when that is made, to ask it how it goes; the result is called when it stops. */
  attach(orchestrator: Statistics & Pick<EventStore, "readers">): () => void;
}
