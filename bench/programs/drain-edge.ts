/** Drains preloaded commands by one tick, as a module of an edge platform. */
import { postgresJs } from "../../adapters/postgres-js.ts";
import { createOrchestrator, defineCommand } from "../../src/index.ts";

const noop = defineCommand({ name: "noop" });

export default {
  async fetch(request: Request, { DATABASE_URL }: { readonly DATABASE_URL: string }): Promise<Response> {
    const { count, concurrency } = (await request.json()) as { readonly count: number; readonly concurrency: number };
    const database = postgresJs(DATABASE_URL, { max: 10 });
    const orchestrator = createOrchestrator({ database, handlers: [noop.handle(() => {})] });
    const result = await orchestrator.tick({ maxCommands: count, concurrency, maxMs: 100_000 });
    await orchestrator.stop();
    await database.close();
    return Response.json(result);
  },
};
