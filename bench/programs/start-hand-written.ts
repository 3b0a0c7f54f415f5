/**
 * Starts "handlers", and notes when: a bare table, LISTEN, and a claim that leases what is there, as one would write it
 * by hand. argv: url. Ready when it listens; answers a list of [key, shared clock at the start].
 */
import process from "node:process";
import postgres from "postgres";
import { answer, pause, ready, sharedNow, untilAsked } from "./parent.ts";

const [url] = process.argv.slice(2) as [string];
const sql = postgres(url, { max: 2, onnotice: () => {} });
const starts: [number, number][] = [];
let asked = false;
let claiming = false;

async function claim(): Promise<void> {
  asked = true;
  if (claiming) return;
  claiming = true;
  while (asked) {
    asked = false;
    const rows = await sql.unsafe(
      `update bare.command set leased_until = now() + interval '30 s'
       where id in (select id from bare.command where leased_until < now() order by id limit 100 for update skip locked)
       returning id, input::text as input`,
      [],
      { prepare: true },
    );
    for (const row of rows) starts.push([(JSON.parse(row.input) as { key: number }).key, sharedNow()]);
    if (rows.length === 0) continue;
    asked = true;
    await sql.unsafe(
      "delete from bare.command where id in (select value::int from json_array_elements_text($1::text::json))",
      [JSON.stringify(rows.map((row) => row.id))],
      { prepare: true },
    );
  }
  claiming = false;
}

await sql.listen("bare", () => void claim());
ready();
await untilAsked();
await pause(500);
answer(starts);
