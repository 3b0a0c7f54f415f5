/**
 * Pushes on idle workers, by turns: through the library; by hand, an insert and then its notification; and by hand with
 * the notification inside the insert's transaction. argv: url, how many of each. Answers a list of
 * [contestant, key, shared clock before the push, shared clock at its reply].
 */
import process from "node:process";
import postgres from "postgres";
import { postgresJs } from "../../adapters/postgres-js.ts";
import { createOrchestrator } from "../../src/index.ts";
import { measured } from "./measured.ts";
import { answer, endWithParent, pause, sharedNow } from "./parent.ts";
import { sayTroubles } from "./troubles.ts";

const [url, count] = process.argv.slice(2) as [string, string];
endWithParent();
const sql = postgres(url, { max: 4, onnotice: () => {} });
const orchestrator = createOrchestrator({ database: postgresJs(sql), commands: [measured], observe: sayTroubles });
const insert = "insert into bare.command (input) values ($1::text::json)";
const notify = "select pg_notify('bare', '')";
const prepare = { prepare: true };

const contestants: Record<string, (key: number) => Promise<number>> = {
  async orchestratum(key) {
    await orchestrator.push(measured(key));
    return sharedNow();
  },
  async bare(key) {
    await sql.unsafe(insert, [JSON.stringify({ key })], prepare);
    const at = sharedNow();
    await sql.unsafe(notify, [], prepare);
    return at;
  },
  async "bare, notified within"(key) {
    await sql.unsafe(
      `with inserted as (${insert} returning id) ${notify} from inserted`,
      [JSON.stringify({ key })],
      prepare,
    );
    return sharedNow();
  },
};

const pushes: [string, number, number, number][] = [];
// The first ones open connections and prepare statements: not counted.
const unmeasured = 20;
let key = 0;
for (let turn = 0; turn < Number(count) + unmeasured; turn++) {
  for (const [name, push] of Object.entries(contestants)) {
    key++;
    const before = sharedNow();
    const replied = await push(key);
    if (turn >= unmeasured) pushes.push([name, key, before, replied]);
    // Long enough for the worker to be idle again: to have finished, found nothing more, and asked what is due next.
    await pause(25 + Math.random() * 20);
  }
}
answer(pushes);
