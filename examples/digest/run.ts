/**
 * One run over a folder: found again where an earlier process has left one, or begun. A folder has a queue of its own,
 * so that what lives of a run is counted by an index, and on a server that several share nobody reads the files of
 * another machine.
 */
import { createHash, randomUUID } from "node:crypto";
import { hostname } from "node:os";
import { setTimeout as sleep } from "node:timers/promises";
import type { Orchestrator, Queryable } from "orchestratum";
import { type Figures, report, walkFolder } from "./commands.ts";

export interface Run {
  /** The correlation id of its commands, and the id of the first one. */
  readonly id: string;
  readonly queue: string;
  /** Of an earlier process: when it began. Undefined for a run that begins now. */
  readonly since: Date | undefined;
  /** Commands that were recorded before. */
  readonly done: number;
  /** Commands that live. */
  readonly left: number;
  /** Those of them that a process has leased, and how long the last lease lasts at most, in ms. */
  readonly leased: number;
  readonly leasedForMs: number;
}

export const queueOf = (folder: string): string => `digest-${digest(`${hostname()} ${folder}`).slice(0, 16)}`;

/** The run that was left unfinished, or else a new one, whose first command is pushed. */
export async function findOrBegin(folder: string, orchestrator: Orchestrator, database: Queryable): Promise<Run> {
  const queue = queueOf(folder);
  const [found] = await database.query<{
    run: string;
    since: string;
    done: number;
    live: number;
    leased: number;
    leased_for_ms: number;
  }>(unfinishedSql, [queue]);
  if (found) {
    const { run: id, since, done, live: left, leased, leased_for_ms: leasedForMs } = found;
    return { id, queue, since: new Date(since), done, left, leased, leasedForMs };
  }
  const id = randomUUID();
  await orchestrator.push(walkFolder({ folder }, { id, queue, metadata: { correlationId: id, source: folder } }));
  return { id, queue, since: undefined, done: 0, left: 1, leased: 0, leasedForMs: 0 };
}

/**
 * A run is unfinished while any of its commands lives, or when its report is missing. That its first walk is still in
 * history tells that nothing has been removed by retention yet, the report, which ended later, included.
 */
const unfinishedSql = `
select
  r.run, r.since, r.done, r.live, r.leased, r.leased_for_ms
from (
  select
    a.metadata->>'correlationId' as run,
    to_char(min(a.created_at) at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"') as since,
    (count(*) filter (where a.finished_at is not null))::int as done,
    (count(*) filter (where a.finished_at is null))::int as live,
    (count(*) filter (where a.status = 'running'))::int as leased,
    coalesce(extract(epoch from max(a.lease_ends_at) - clock_timestamp()) * 1000, 0)::int as leased_for_ms,
    bool_or(a.parent_id is null and a.name = 'walk_folder' and a.status = 'succeeded') as walked,
    bool_or(a.name = 'report') as reported
  from orchestratum.all_commands a
  where a.queue = $1::text
    and a.hook is null
    and a.metadata->>'correlationId' is not null
  group by a.metadata->>'correlationId'
) r
where r.live > 0 or (r.walked and not r.reported)
order by r.since
limit 1`;

/** What lives of a run, its report left out: looked at again and again, so never history. */
const leftSql = `
select count(*)::int as live
from orchestratum.command c
where c.queue = $1::text
  and c.name <> 'report'
  and c.metadata->>'correlationId' = $2::text`;

const maxSilenceMs = 60_000;

/** Looks how much is left until nothing is. The more a look costs, the rarer it is. */
export async function untilNothingIsLeft(
  run: Run,
  database: Queryable,
  { onLeft, signal }: { onLeft(left: number): void; signal: AbortSignal },
): Promise<void> {
  let answeredAt = performance.now();
  for (;;) {
    const startedAt = performance.now();
    try {
      const [row] = await database.query<{ live: number }>(leftSql, [run.queue, run.id], { signal });
      answeredAt = performance.now();
      const left = row?.live ?? 0;
      onLeft(left);
      if (left === 0) return;
    } catch (error) {
      // A server that is restarted comes back; the worker waits for it, too, and says so.
      if (signal.aborted || performance.now() - answeredAt > maxSilenceMs) throw error;
    }
    await sleep(Math.max(100, 20 * (performance.now() - startedAt)), undefined, { signal });
  }
}

/** Pushes the report and waits for it. Its id follows from the run's, so that a run has one, however often it is pushed. */
export async function reportOn(run: Run, orchestrator: Orchestrator, signal: AbortSignal): Promise<Figures> {
  const metadata = { correlationId: run.id, causationId: run.id };
  const { id } = await orchestrator.push(
    report({ run: run.id }, { id: uuidFrom(`report ${run.id}`), queue: run.queue, metadata }),
  );
  const outcome = await orchestrator.waitFor(id, { signal });
  if (outcome.status === "succeeded") return outcome.output;
  throw new Error(`Cannot report on the run: the command ${outcome.status}: ${outcome.error?.message ?? "no error"}`);
}

const digest = (text: string): string => createHash("sha256").update(text).digest("hex");

/** A UUID of version 8, for what is made by rules of one's own (RFC 9562). */
function uuidFrom(text: string): string {
  const hex = digest(text);
  return [hex.slice(0, 8), hex.slice(8, 12), `8${hex.slice(13, 16)}`, `8${hex.slice(17, 20)}`, hex.slice(20, 32)].join(
    "-",
  );
}
