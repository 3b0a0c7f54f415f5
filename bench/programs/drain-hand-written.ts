/**
 * Drains preloaded commands by a loop written by hand over the same functions: no heartbeats, no retries, no marks, no
 * recovery. What the library costs is what it takes longer than this. argv: url, how many, batch, claimers.
 */
import process from "node:process";
import postgres from "postgres";
import { answer, endWithParent, stopwatch } from "./parent.ts";

const [url, count, batch, claimers] = process.argv.slice(2) as [string, string, string, string];
endWithParent();
const sql = postgres(url, { max: Number(claimers), onnotice: () => {} });
const lanes = JSON.stringify(
  Array.from({ length: 10 }, (_, priority) => ({ queue: "default", priority, mark_at: "-infinity" })),
);
await sql`select 1`;

const claimText =
  "select id, fence, input from orchestratum.claim($1::text, $2::text::json, $3::int, 8000000, 30000) where id is not null";
const finishText = "select id, result from orchestratum.finish($1::text, $2::text::json)";
let done = 0;

async function claimer(worker: string): Promise<void> {
  let outcomes: string[] = [];
  while (done < Number(count)) {
    const rows = await sql.unsafe(claimText, [worker, lanes, Number(batch)], { prepare: true });
    for (const row of rows) {
      if (row.input !== null) JSON.parse(row.input);
      outcomes.push(`{"id":"${row.id}","fence":${row.fence},"verdict":"succeeded"}`);
    }
    const finished = await sql.unsafe(finishText, [worker, `[${outcomes.join(",")}]`], { prepare: true });
    // Busy: the other claimer's claim holds the row for a moment, so it goes into the next batch.
    const busy = new Set<string>();
    for (const { id, result } of finished) if (result === "busy") busy.add(id);
    done += outcomes.length - busy.size;
    outcomes = busy.size === 0 ? [] : outcomes.filter((outcome) => busy.has(outcome.slice(7, 43)));
  }
}

const taken = stopwatch();
await Promise.all(Array.from({ length: Number(claimers) }, (_, index) => claimer(`hand-${index}`)));
answer(taken());
