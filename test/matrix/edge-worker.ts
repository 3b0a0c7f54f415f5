/** A module of an edge platform with a database: the router, and ticks by a timer. */
import { createOrchestrator } from "orchestratum";
import { router, tokenAuthoriser } from "orchestratum/hono";
import { postgresJs } from "orchestratum/postgres-js";
import { edge } from "orchestratum/workers";
import { echo, hold, limitMs } from "./edge-contracts.ts";

interface Env {
  readonly DATABASE_URL: string;
  readonly TOKEN: string;
}

const handlers = [
  echo.handle(({ input }) => input),
  // For as long as it may.
  hold.handle(
    ({ signal }) =>
      new Promise<void>((_, reject) => {
        signal.addEventListener("abort", () => reject(signal.reason), { once: true });
      }),
  ),
];

function open({ DATABASE_URL }: Env) {
  const database = postgresJs(DATABASE_URL, { max: 3, connection: { application_name: "edge" } });
  return { orchestrator: createOrchestrator({ database, handlers }), close: () => database.close() };
}

const module = edge<Env>({
  open,
  limitMs,
  tick: { concurrency: 10 },
  router: (orchestrator, { TOKEN }) => {
    return router(orchestrator, {
      authorise: tokenAuthoriser([{ name: "test", token: TOKEN, scopes: ["push", "read"] }]),
    });
  },
});

export default {
  ...module,
  // Notes how long it took as the platform counts: the way here and back, from a busy machine, is none of the module's.
  async scheduled(...invocation: Parameters<typeof module.scheduled>): Promise<void> {
    const begun = performance.now();
    await module.scheduled(...invocation);
    const ms = performance.now() - begun;
    const { sql, close } = postgresJs(invocation[1].DATABASE_URL, { max: 1 });
    await sql`insert into invocation values (${ms})`;
    await close();
  },
};
