-- finish() within a transaction of the handler's own, as its last statement: what the handler wrote there, the outcome and what follows
-- from it commit together, or none of them. outcomes: as finish takes them, and one of them only.
-- A process that froze between this and its COMMIT would hold the command's row for ever, and nobody else could have the command. So the
-- transaction ends with the lease at the latest, by a timeout of this transaction alone; one that is shorter already stays.
-- Without a row the lease is over or not this worker's any more. transaction_id: by which the library sees the commit, and hints then.
create function orchestratum.finish_within(worker text, outcomes json, at timestamptz default clock_timestamp())
returns table (id text, fence int, result text, awaited boolean, queue text, available_at text, transaction_id text)
language plpgsql volatile
set enable_seqscan = off set enable_bitmapscan = off set jit = off
as $f$
#variable_conflict use_column
declare
  left_ms bigint;
  idle_ms bigint;
begin
  perform orchestratum.require_read_committed();
  select floor(extract(epoch from c.available_at - finish_within.at) * 1000) into left_ms
  from json_to_recordset(finish_within.outcomes) as r (id uuid, fence int)
  cross join lateral (
    select l.available_at
    from orchestratum.command l
    where l.id = r.id and l.fence = r.fence and l.leased_by = finish_within.worker
    limit 1
  ) c;
  if left_ms is null or left_ms < 1 then
    return;
  end if;
  select s.setting::bigint into idle_ms from pg_settings s where s.name = 'idle_in_transaction_session_timeout';
  if idle_ms = 0 or idle_ms > left_ms then
    perform set_config('idle_in_transaction_session_timeout', least(left_ms, 2147483647)::text, true);
  end if;
  if finish_within.outcomes -> 0 -> 'events' is null then
    return query
    select f.id, f.fence, f.result, f.awaited, f.queue, f.available_at, pg_current_xact_id()::text
    from orchestratum.finish(finish_within.worker, finish_within.outcomes, finish_within.at) f;
  else
    return query
    select f.id, f.fence, f.result, f.awaited, f.queue, f.available_at, pg_current_xact_id()::text
    from orchestratum.finish_publishing(finish_within.worker, finish_within.outcomes, finish_within.at) f;
  end if;
end $f$;
