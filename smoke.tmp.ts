import * as v from "valibot";
import postgres from "postgres";
import { createOrchestrator, defineCommand, snooze, PermanentFailure } from "orchestratum";
import { postgresJs } from "orchestratum/postgres-js";
import { pglite } from "orchestratum/pglite";
const which = process.argv[2];
const url = "postgres://postgres:postgres@127.0.0.1:54999/dev";
const sql = which === "pg" ? postgres(url, { onnotice() {}, max: 5 }) : undefined;
const database = sql ? postgresJs(sql) : await pglite();
if (sql) await sql`drop schema if exists orchestratum cascade`;
const add = defineCommand({ name: "add", input: v.object({ a: v.number(), b: v.number() }), output: v.number(), backoff: { initialMs: 10 } });
const note = defineCommand({ name: "note", input: v.string() });
const seen: unknown[] = [];
let tries = 0;
const o = createOrchestrator({
  database, observe: (e) => { if (!["command_started", "command_finished","duty_finished"].includes(e.type)) console.log(e) },
  handlers: [
    add.handle(({ input, attempt, progress }) => {
      if (input.a === 13) throw new PermanentFailure("unlucky");
      if (input.a === 7 && attempt < 3) throw new Error("again " + attempt);
      if (input.a === 99 && tries++ < 1) return snooze({ delayMs: 50 });
      return input.a + input.b;
    }, { onSuccess: ({ output }) => note(`sum ${output}`), onFailure: ({ error, input }) => note(`failed ${error?.message} ${input?.a}`), onCancellation: () => note("cancelled") }),
    note.handle(({ input, metadata }) => void seen.push([input, metadata.causationId])),
  ],
});
console.log(await o.migrate());
const w = o.startWorker({ concurrency: 20 });
await w.started;
const t0 = performance.now();
const { id } = await o.push(add({ a: 1, b: 2 }));
console.log(await o.waitFor(id), performance.now() - t0);
const [x, y, z] = await o.push([add({ a: 7, b: 1 }), add({ a: 13, b: 1 }), add({ a: 99, b: 1 })]);
console.log(await Promise.all([o.waitFor(x.id), o.waitFor(y.id), o.waitFor(z.id)]), performance.now() - t0);
const { id: later } = await o.push(add({ a: 1, b: 1 }, { delayMs: 1e6 }));
console.log(await o.cancel(later), await o.waitFor(later));
const lat: number[] = [];
for (let i = 0; i < 300; i++) { const t = performance.now(); const { id } = await o.push(note("x")); await o.waitFor(id); lat.push(performance.now() - t); }
lat.sort((a, b) => a - b); console.log("push+wait median", lat[150], "p99", lat[297]);
const t1 = performance.now();
await Promise.all(Array.from({ length: 16 }, async () => { for (let i = 0; i < 100; i++) { const { id } = await o.push(note("x")); await o.waitFor(id); } }));
console.log("1600 by 16:", performance.now() - t1);
console.log(await o.counts(), w.counts, seen.slice(0, 6));
const t2 = performance.now();
await o.stop(); console.log("stopped in", performance.now() - t2);
if ("close" in database) await (database as any).close(); else await sql!.end();
