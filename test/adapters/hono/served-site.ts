/** The router of tests with a worker beside it, for whatever serves HTTP; it tells what only it can see. */
import { router } from "../../../adapters/hono/router.ts";
import { createOrchestrator, type Driver, type Orchestrator } from "../../../src/index.ts";
import { authorise, handlers, noted, placed, wait } from "./contracts.ts";

/** What `GET /seen` answers. */
export interface Seen {
  /** How often each statement was sent, by its text. */
  readonly statements: Readonly<Record<string, number>>;
  readonly internalErrors: readonly string[];
}

export interface ServedSite {
  readonly orchestrator: Orchestrator;
  fetch(request: Request): Response | Promise<Response>;
}

export function createServedSite(driver: Driver, { maxStreams = 60 } = {}): ServedSite {
  const statements: Record<string, number> = {};
  const internalErrors: string[] = [];
  const counting: Driver = Object.assign(Object.create(driver), {
    query: (text: string, ...others: unknown[]) => {
      statements[text] = (statements[text] ?? 0) + 1;
      return (driver.query as any)(text, ...others);
    },
  });
  const orchestrator = createOrchestrator({
    database: counting,
    handlers,
    commands: [wait],
    observe: (observation) => {
      if (observation.type === "internal_error") internalErrors.push(`${observation.operation}: ${observation.error}`);
    },
  });
  const app = router(orchestrator, { authorise, events: [placed, noted], maxStreams });
  return {
    orchestrator,
    fetch(request) {
      if (new URL(request.url).pathname === "/seen") return Response.json({ statements, internalErrors });
      return app.fetch(request);
    },
  };
}
