/** A module of workerd that runs one statement on its database for each request, and answers what came of it. */
import { postgresJs } from "../../adapters/postgres-js.ts";

interface Env {
  readonly DATABASE_URL: string;
}

export default {
  async fetch(_: Request, env: Env): Promise<Response> {
    const database = postgresJs(env.DATABASE_URL, { max: 1, listen: false });
    try {
      await database.query("select 1", [], { signal: AbortSignal.timeout(10_000) });
      return new Response("answered");
    } catch (error) {
      return new Response(String(error));
    } finally {
      await database.close({ timeoutMs: 1_000 });
    }
  },
};
