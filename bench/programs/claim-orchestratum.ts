/**
 * Works off what is pushed, and times each of its claims at the driver. argv: url, the worker's options as JSON, and
 * "marked" or "unmarked": then the marks of every claim are put to -infinity on their way, as if there were none.
 * Ready when it works; answers a list of [shared clock when sent, ms, rows, whether it read from below].
 */
import process from "node:process";
import postgres from "postgres";
import { postgresJs } from "../../adapters/postgres-js.ts";
import { createOrchestrator, type Driver, type Param } from "../../src/index.ts";
import { measured } from "./measured.ts";
import { answer, ready, sharedNow, untilAsked } from "./parent.ts";
import { sayTroubles } from "./troubles.ts";

const [url, options, marking] = process.argv.slice(2) as [string, string, string];
const claims: [number, number, number, boolean][] = [];

/** Each claim runs through here, as the library sends it. */
function timed(driver: Driver): Driver {
  return {
    ...driver,
    async query<Row>(text: string, params: readonly Param[], queryOptions?: { signal?: AbortSignal }) {
      if (!text.includes(".claim(")) return await driver.query<Row>(text, params, queryOptions);
      const lanes = JSON.parse(String(params[1])) as { mark_at: string }[];
      const fromBelow = lanes.every((lane) => lane.mark_at === "-infinity");
      const unmarked = JSON.stringify(lanes.map((lane) => ({ ...lane, mark_at: "-infinity" })));
      const sent = marking === "unmarked" ? params.with(1, unmarked) : params;
      const at = sharedNow();
      const rows = await driver.query<Row>(text, sent, queryOptions);
      claims.push([at, sharedNow() - at, rows.length - 1, fromBelow]);
      return rows;
    },
  };
}

const sql = postgres(url, { max: 10, onnotice: () => {} });
const orchestrator = createOrchestrator({
  database: timed(postgresJs(sql)),
  handlers: [measured.handle(() => {})],
  observe: sayTroubles,
});
await orchestrator.startWorker(JSON.parse(options)).started;
ready();
await untilAsked();
await orchestrator.stop({ graceMs: 2_000 });
answer(claims);
