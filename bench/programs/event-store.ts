/**
 * One thing that an event store does, by this library or by statements in a bare loop. argv: url, how many, who, what.
 * Answers what was taken.
 */
import process from "node:process";
import postgres from "postgres";
import { postgresJs } from "../../adapters/postgres-js.ts";
import { systemClock } from "../../src/clock.ts";
import { createDatabase } from "../../src/database.ts";
import { createOrchestrator } from "../../src/index.ts";
import { createLogReader } from "../../src/read-log.ts";
import { uuidv7 } from "../../src/uuid.ts";
import { answer, endWithParent, stopwatch } from "./parent.ts";
import { orderOf, orderPlaced } from "./shop-event.ts";
import { sayTroubles } from "./troubles.ts";

const [url, count, who, what] = process.argv.slice(2) as [string, string, "library" | "bare", string];
endWithParent();
const appenders = 8;
const total = Number(count);
const sql = postgres(url, { max: appenders, onnotice: () => {} });
const driver = postgresJs(sql);
const orchestrator = createOrchestrator({ database: driver, observe: sayTroubles });

/** Each appender has a stream of its own, and knows the version that it is at. */
async function inTurns(size: number, append: (stream: string, version: number, first: number) => Promise<unknown>) {
  const run = async (appender: number): Promise<void> => {
    const own = total / appenders;
    for (let done = 0; done < own; done += size) await append(`stream-${appender}`, done, appender * own + done);
  };
  await Promise.all(Array.from({ length: appenders }, (_, appender) => run(appender)));
}

const numbers = (first: number, size: number) => Array.from({ length: size }, (_, i) => first + i);

type Way = Readonly<Record<"library" | "bare", () => Promise<void>>>;

const append = (size: number): Way => ({
  library: () =>
    inTurns(size, (stream, expectedVersion, first) => {
      const events = numbers(first, size).map((n) => orderPlaced(orderOf(n)));
      return orchestrator.append(stream, events, { expectedVersion });
    }),
  bare: () =>
    inTurns(size, (stream, version, first) => {
      const events = numbers(first, size).map((n) => ({ id: uuidv7(), topic: orderPlaced.topic, data: orderOf(n) }));
      const text = "select version from bare.append($1::text, $2::int, $3::text::json)";
      return sql.unsafe(text, [stream, version, JSON.stringify(events)], { prepare: true });
    }),
});

const ways: Readonly<Record<string, Way>> = {
  append: append(1),
  "append-100": append(100),
  place: {
    async library() {
      const log = createLogReader(createDatabase(driver, "orchestratum", systemClock, sayTroubles), systemClock);
      while ((await log.place()).count > 0);
    },
    async bare() {
      const place = () => sql.unsafe("select bare.sequence_events($1::int) as placed", [1_000], { prepare: true });
      while ((await place())[0]?.placed > 0);
    },
  },
  "read-all": {
    async library() {
      let read = 0;
      for (let after = 0; read < total; ) {
        const { events, position } = await orchestrator.readAll({ after, limit: 1_000 });
        [read, after] = [read + events.length, position];
      }
    },
    async bare() {
      const text =
        "select event_position, id, stream, version, topic, data, metadata, appended_at from bare.read_log($1::text::bigint, $2::int)";
      let read = 0;
      for (let after = "0"; read < total; ) {
        const rows = await sql.unsafe(text, [after, 1_000], { prepare: true });
        for (const row of rows) {
          JSON.parse(row.data);
          if (row.metadata !== null) JSON.parse(row.metadata);
        }
        [read, after] = [read + rows.length, rows.at(-1)?.event_position];
      }
    },
  },
};

await sql`select 1`;
const taken = stopwatch();
await ways[what]?.[who]();
answer(taken());
