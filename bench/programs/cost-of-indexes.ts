/**
 * What the indexes of history by parent and by correlation id cost a drain, in the server's processor time: pairs of
 * drains, one with them and one without, the first of a pair in turns. `node --import tsx bench/programs/cost-of-indexes.ts [pairs]`
 * starts a server of its own. By hand: the indexes are there, and this says what for.
 */
import process from "node:process";
import postgres from "postgres";
import { postgresJs } from "../../adapters/postgres-js.ts";
import { createOrchestrator, defineCommand, migrate } from "../../src/index.ts";
import { migrations } from "../../src/sql.generated.ts";
import { startPostgres } from "../../test/postgres.ts";
import { median } from "../figures.ts";
import { serverCpuSeconds } from "../server-cpu.ts";

const count = 100_000;
const batch = 10_000;
const pairs = Number(process.argv[2] ?? 7);

const server = await startPostgres({
  fsync: "on",
  synchronous_commit: "on",
  shared_buffers: "512MB",
  max_wal_size: "4GB",
});
const sql = postgres(server.url, { max: 10, onnotice: () => {} });
await migrate(postgresJs(sql));
const noop = defineCommand({ name: "noop" });
/** As the migration makes them. */
const indexes = migrations.find(({ name }) => name === "create_history_indexes")?.up.match(/create index[^;]+;/g) ?? [];

/** Kinds of commands: as most are, first of their chain, which are in neither index; and such as are in both. */
const kinds = {
  "first of their chain": () => undefined,
  "with parent and correlation id": (n: number) => ({ metadata: { correlationId: `chain-${n >> 3}` } }),
};
type Kind = keyof typeof kinds;

/** Seconds of the server's time that draining them takes. */
async function drain(kind: Kind, indexed: boolean): Promise<number> {
  await sql`truncate orchestratum.command, orchestratum.history, orchestratum.duty`;
  await sql`drop index if exists orchestratum.history_parent, orchestratum.history_correlation`;
  if (indexed) for (const index of indexes) await sql.unsafe(index);
  const orchestrator = createOrchestrator({ database: postgresJs(sql), handlers: [noop.handle(() => {})] });
  for (let first = 0; first < count; first += batch) {
    await orchestrator.push(Array.from({ length: batch }, (_, n) => noop({ n }, kinds[kind](first + n))));
  }
  if (kind !== "first of their chain") await sql`update orchestratum.command set parent_id = gen_random_uuid()`;
  await sql`vacuum analyze orchestratum.command`;
  await sql`checkpoint`;
  const before = (await serverCpuSeconds(sql)) as number;
  const worker = orchestrator.startWorker({ concurrency: 2_000, maxClaim: 1_000 });
  while (worker.counts.succeeded < count) await new Promise((resolve) => setTimeout(resolve, 2));
  const after = (await serverCpuSeconds(sql)) as number;
  await orchestrator.stop();
  return after - before;
}

try {
  if ((await serverCpuSeconds(sql)) === undefined) throw new Error("Cannot measure: this system has no /proc");
  for (const kind of Object.keys(kinds) as Kind[]) {
    const ratios: number[] = [];
    for (let pair = 0; pair < pairs; pair++) {
      const taken = { indexed: 0, bare: 0 };
      for (const which of pair % 2 === 0 ? (["indexed", "bare"] as const) : (["bare", "indexed"] as const)) {
        taken[which] = await drain(kind, which === "indexed");
      }
      ratios.push(taken.indexed / taken.bare);
      console.log(`${kind}: ${taken.indexed.toFixed(2)} s with them, ${taken.bare.toFixed(2)} s without`);
    }
    const spread = `${Math.min(...ratios).toFixed(3)} to ${Math.max(...ratios).toFixed(3)}`;
    console.log(`${kind}: ${median(ratios).toFixed(3)} of the time without them, median of ${pairs} (${spread})`);
  }
} finally {
  await sql.end({ timeout: 5 });
  await server.stop();
}
