/** The router of the socket tests in a Durable Object, with a worker beside it. */

import { postgresJs } from "orchestratum/postgres-js";
import { edgeObject } from "orchestratum/workers";
import { createServedSite } from "../adapters/hono/served-site.ts";

interface Env {
  readonly DATABASE_URL: string;
  readonly SITE: {
    idFromName(name: string): unknown;
    get(id: unknown): { fetch(request: Request): Promise<Response> };
  };
}

const answering = new WeakMap<object, ReturnType<typeof createServedSite>>();

export const Site = edgeObject<Env>({
  open({ DATABASE_URL }) {
    const database = postgresJs(DATABASE_URL, { max: 8 });
    const site = createServedSite(database, { maxStreams: 1_000 });
    answering.set(site.orchestrator, site);
    return { orchestrator: site.orchestrator, close: () => database.close() };
  },
  router: (orchestrator) => answering.get(orchestrator) as ReturnType<typeof createServedSite>,
});

export default {
  fetch: (request: Request, { SITE }: Env): Promise<Response> => SITE.get(SITE.idFromName("site")).fetch(request),
};
