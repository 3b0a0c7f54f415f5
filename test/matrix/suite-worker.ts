/** The conformance suite as a module of workerd: each request runs one case, on a client of its own. */
import { postgresJs } from "../../adapters/postgres-js.ts";
import { suites } from "../suites.ts";

interface Env {
  readonly DATABASE_URL: string;
}

export default {
  async fetch(request: Request, env: Env): Promise<Response> {
    const { searchParams } = new URL(request.url);
    const suite = suites[searchParams.get("suite") ?? ""];
    const found = suite?.find(({ name }) => name === searchParams.get("case"));
    if (!found) {
      return Response.json(Object.entries(suites).map(([name, cases]) => [name, cases.map((each) => each.name)]));
    }
    const database = postgresJs(env.DATABASE_URL, { max: 8 });
    try {
      await found.run({
        driver: database,
        transaction: async (work) => void (await database.sql.begin((tx) => work(postgresJs(tx)))),
      });
      return new Response("passed");
    } catch (error) {
      return new Response(error instanceof Error ? (error.stack ?? error.message) : String(error), { status: 500 });
    } finally {
      await database.close({ timeoutMs: 1_000 });
    }
  },
};
