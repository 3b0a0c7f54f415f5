/**
 * A reader as a process: argv[2] is the JSON of `ReaderProcessOptions`. Its projection is a row for each event, written with
 * the checkpoint in one transaction. Says on stdout what it observes, as JSON lines, and `{"type":"batch"}` for each batch.
 */
import process from "node:process";
import postgres from "postgres";
import { postgresJs } from "../../adapters/postgres-js.ts";
import { createOrchestrator, type ReaderOptions } from "../../src/index.ts";

export interface ReaderProcessOptions {
  readonly url: string;
  readonly name: string;
  /** Its process stops between the checkpoint and the COMMIT of the batch that has this number in it. */
  readonly freezeAt?: number | undefined;
  readonly reader: Pick<ReaderOptions, "leaseMs" | "pollIntervalMs" | "batchSize">;
}

const { url, name, freezeAt, reader: options } = JSON.parse(process.argv[2] as string) as ReaderProcessOptions;
const sql = postgres(url, { max: 4, onnotice: () => {} });
const say = (line: object): void => void process.stdout.write(`${JSON.stringify(line)}\n`);
const orchestrator = createOrchestrator({ database: postgresJs(sql), instance: name, observe: say });

const reader = orchestrator.startReader({
  name: "projection",
  ...options,
  backoff: { initialMs: 50 },
  async handle(events, { checkpoint }) {
    const numbers = events.map(({ data }) => (data as { n: number }).n);
    say({ type: "batch", first: numbers[0] });
    await sql.begin(async (tx) => {
      for (const n of numbers) await tx`insert into projected (n, by_whom) values (${n}, ${name})`;
      await checkpoint(postgresJs(tx));
      if (freezeAt !== undefined && numbers.includes(freezeAt)) process.kill(process.pid, "SIGSTOP");
    });
  },
});
process.once("SIGTERM", () => {
  void reader.stop({ graceMs: 2_000 }).then(async () => {
    await orchestrator.stop();
    await sql.end({ timeout: 2 });
  });
});
