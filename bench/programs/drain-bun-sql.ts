/** What drain-orchestratum.ts does, by the client that comes with Bun. argv: the same. */
import process from "node:process";
import { type BunSqlPool, bunSql } from "../../adapters/bun-sql.ts";
import { createOrchestrator, defineCommand, type WorkerOptions } from "../../src/index.ts";
import { answer, endWithParent, stopwatch } from "./parent.ts";
import { sayTroubles } from "./troubles.ts";

const [url, count, options] = process.argv.slice(2) as [string, string, string];
const { SQL } = (globalThis as unknown as { Bun: { SQL: new (url: string, options: object) => BunSqlPool } }).Bun;
endWithParent();
const sql = new SQL(url, { max: 10 });
const noop = defineCommand({ name: "noop" });
const orchestrator = createOrchestrator({
  database: bunSql(sql),
  handlers: [noop.handle(() => {})],
  observe: sayTroubles,
});
await sql.unsafe("select 1");
const taken = stopwatch();
const workers = (JSON.parse(options) as WorkerOptions[]).map((each) => orchestrator.startWorker(each));
const recorded = () => workers.reduce((sum, worker) => sum + worker.counts.succeeded, 0);
while (recorded() < Number(count)) await new Promise((resolve) => setTimeout(resolve, 2));
const result = taken();
await orchestrator.stop();
answer(result);
