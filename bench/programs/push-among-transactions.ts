/**
 * Sixteen pushers, each an orchestrator of its own; every tenth push is inside a transaction of 40 ms. argv: url, for
 * how many ms. Answers a list of [key, shared clock at the push's reply, or at the commit's, whether it was inside].
 */
import process from "node:process";
import postgres from "postgres";
import { postgresJs } from "../../adapters/postgres-js.ts";
import { createOrchestrator } from "../../src/index.ts";
import { measured } from "./measured.ts";
import { answer, endWithParent, pause, sharedNow } from "./parent.ts";
import { sayTroubles } from "./troubles.ts";

const [url, forMs] = process.argv.slice(2) as [string, string];
endWithParent();
const pushes: [number, number, boolean][] = [];
const warmUpMs = 2_000;
const begun = performance.now();
const elapsed = () => performance.now() - begun;
let keys = 0;

async function pusher(): Promise<void> {
  const sql = postgres(url, { max: 3, onnotice: () => {} });
  const orchestrator = createOrchestrator({ database: postgresJs(sql), commands: [measured], observe: sayTroubles });
  while (elapsed() < Number(forMs) + warmUpMs) {
    const key = keys++;
    const within = Math.random() < 0.1;
    if (within) {
      await sql.begin(async (transaction) => {
        await orchestrator.push(measured(key), { db: postgresJs(transaction) });
        await pause(40);
      });
    } else {
      await orchestrator.push(measured(key));
    }
    if (elapsed() > warmUpMs) pushes.push([key, sharedNow(), within]);
    await pause(Math.random() * 60);
  }
}

await Promise.all(Array.from({ length: 16 }, pusher));
answer(pushes);
