/**
 * History: what one asks of commands costs the same with ten million that have finished as with ten thousand. Both lie
 * in schemas of one server, so that what else the machine does meets both alike, and each question is put to one and
 * the other in turn. Beside the time, the pages that a question touches are compared: they say whether its plan holds.
 */
import postgres from "postgres";
import { postgresJs } from "../adapters/postgres-js.ts";
import { migrate } from "../src/index.ts";
import { schemaSql } from "../src/schema-name.ts";
import { queries } from "../src/sql.generated.ts";
import { median, type Ratio, ratioOfRounds } from "./figures.ts";
import type { Ground } from "./ground.ts";

const few = 10_000;
/** Written at once: so that it can be seen how far it is. */
const step = 250_000;
const turns = 40;
const wanted = { atMost: 3 };
/** Deeper indexes are some pages more; a plan that reads one whole touches a hundred times as many. */
const wantedPages = { atMost: 10 };

interface Question {
  readonly name: string;
  readonly statement: "get" | "list" | "timeline" | "stats";
  /** For the command of this number. */
  params(id: string, now: number): (string | number | boolean | null)[];
  /** How many rows it must answer at least: a question about nothing is cheap everywhere. */
  readonly rows: number;
}

const hourMs = 3_600_000;
const within = (now: number, hours: number) => ({
  from: new Date(now - hours * hourMs).toISOString(),
  to: new Date(now).toISOString(),
});
const page = (filter: object): (string | number | null)[] => [
  JSON.stringify({ hooks: false, ...filter }),
  null,
  21,
  null,
];

const questions: readonly Question[] = [
  { name: "get", statement: "get", params: (id) => [JSON.stringify([id])], rows: 1 },
  {
    name: "list of what failed in a day",
    statement: "list",
    params: (_, now) => page({ statuses: ["failed"], ...within(now, 24) }),
    rows: 21,
  },
  {
    name: "list of what succeeded in an hour, two days ago",
    statement: "list",
    params: (_, now) => page({ statuses: ["succeeded"], ...within(now - 48 * hourMs, 1) }),
    rows: 21,
  },
  { name: "timeline", statement: "timeline", params: (id) => [id, 101], rows: 2 },
  { name: "stats", statement: "stats", params: () => [false], rows: 1 },
];

const idOf = (n: number) => `b0000000-0000-7000-8000-${n.toString(16).padStart(12, "0")}`;

interface Explained {
  "QUERY PLAN": [{ Plan: { "Shared Hit Blocks": number; "Shared Read Blocks": number } }];
}

export async function history(ground: Ground, { count = 10_000_000 } = {}): Promise<Ratio[]> {
  const { sql, url, rounds, progress } = ground;
  const sizes = { small: few, large: count } as const;
  type Size = keyof typeof sizes;
  const schemaOf = (size: Size) => `history_${size}`;
  progress.expect(2 + rounds);
  for (const size of ["small", "large"] as const) {
    progress.step(`history: ${sizes[size].toLocaleString("en")} finished commands`);
    await sql.unsafe(`drop schema if exists ${schemaOf(size)} cascade`);
    await migrate(postgresJs(sql), { schema: schemaOf(size) });
    await fill(sql, schemaOf(size), sizes[size], (done) => progress.say(`${done.toLocaleString("en")} written`));
  }
  await sql`checkpoint`;

  // One session with plans of its own, as a pool's are after some minutes.
  const session = postgres(url, { max: 1, onnotice: () => {}, fetch_types: false });
  const times = new Map(questions.map(({ name }) => [name, [] as number[]]));
  const pages = new Map(questions.map(({ name }) => [name, [] as number[]]));
  try {
    const ask = async (question: Question, size: Size, turn: number, explain = "") => {
      const text = explain + schemaSql(queries[question.statement], schemaOf(size));
      // Commands that caused another: every tenth does.
      const id = idOf((((turn * 7_919) % (sizes[size] / 10 - 1)) + 1) * 10);
      return await session.unsafe(text, question.params(id, Date.now()), { prepare: true });
    };
    for (let round = 0; round < rounds; round++) {
      progress.step(`history, round ${round + 1}`);
      for (const question of questions) {
        const taken: Record<Size, number[]> = { small: [], large: [] };
        const touched: Record<Size, number[]> = { small: [], large: [] };
        for (let turn = 0; turn < turns; turn++) {
          for (const size of turn % 2 === 0 ? (["small", "large"] as const) : (["large", "small"] as const)) {
            const begun = performance.now();
            const rows = await ask(question, size, round * turns + turn);
            taken[size].push(performance.now() - begun);
            if (rows.length < question.rows) {
              throw new Error(`Cannot measure ${question.name}: it answered ${rows.length} of ${question.rows} rows`);
            }
          }
        }
        for (const size of ["small", "large"] as const) {
          for (let turn = 0; turn < 5; turn++) {
            const [row] = await ask(question, size, turn, "explain (analyze, buffers, format json) ");
            const { Plan } = (row as unknown as Explained)["QUERY PLAN"][0];
            touched[size].push(Plan["Shared Hit Blocks"] + Plan["Shared Read Blocks"]);
          }
        }
        times.get(question.name)?.push(median(taken.large) / median(taken.small));
        pages.get(question.name)?.push(median(touched.large) / median(touched.small));
        const told = (of: Record<Size, number[]>, digits: number) =>
          `${median(of.small).toFixed(digits)} and ${median(of.large).toFixed(digits)}`;
        progress.say(`${question.name}: ${told(taken, 2)} ms, ${told(touched, 0)} pages`);
      }
    }
  } finally {
    await session.end({ timeout: 5 });
  }
  const name = count.toLocaleString("en");
  return questions.flatMap(({ name: question }) => [
    ratioOfRounds(`history, ${question}: ${name} / 10,000`, times.get(question) as number[], wanted),
    ratioOfRounds(`history, ${question}, pages touched`, pages.get(question) as number[], wantedPages),
  ]);
}

/**
 * Commands that finished within the last six days, one after the other: one in ten failed, and one in ten is the
 * follow-up of the one before. What came of the last day is counted as the workers' duty does it.
 */
async function fill(sql: postgres.Sql, schema: string, count: number, wrote: (done: number) => void): Promise<void> {
  for (let first = 1; first <= count; first += step) {
    const last = Math.min(first + step - 1, count);
    await sql.unsafe(`
      insert into ${schema}.history (
        slot, id, name, version, queue, priority, status, due_at, fence, attempt, max_attempts, losses, timeout_ms, worker, started_at,
        finished_at, parent_id, input, metadata, trail, created_at
      )
      select
        ${schema}.history_slot(at, n % 10 <> 3), ('b0000000-0000-7000-8000-' || lpad(to_hex(n), 12, '0'))::uuid, 'work_' || n % 20, 1,
        'queue_' || n % 5, 5, case when n % 10 = 3 then 'failed' else 'succeeded' end, at, 1, 1, 4, 0, 60000, 'worker-' || n % 4, at, at,
        case when n % 10 = 1 and n > 1 then ('b0000000-0000-7000-8000-' || lpad(to_hex(n - 1), 12, '0'))::uuid end,
        json_build_object('customer', n, 'note', 'as an application would have it'),
        case when n % 10 = 1 then json_build_object('correlationId', 'chain-' || n / 10) end,
        case when n % 10 = 3 then '[{"code": "Error", "message": "no", "fence": 1, "attempt": 1}]'::jsonb end, at
      from generate_series(${first}, ${last}) n
      cross join lateral (select now() - interval '2 minutes' - (${count} - n) * interval '6 days' / ${count} as at) finished`);
    wrote(last);
  }
  await sql.unsafe(`vacuum analyze ${schema}.history`);
  for (let more = true; more; ) {
    const [row] = await sql.unsafe(schemaSql(queries.foldHistory, schema), [60_000]);
    more = row?.more === true;
  }
}
