-- Takes dead letters out of history: commands that ended failed, timed out or not found, with all that is known of them. ids: ["…"].
-- Answers 'dropped', 'unfinished' (it lives, retried perhaps), 'kept' (it ended otherwise), 'busy' (somebody else has it locked: ask again) or
-- 'unknown'. Waits for no row lock. Noted as an act. History is partitioned, so a row is found again by its place and its partition.
create function orchestratum.drop_dead_letters(
  ids json, by_whom text default null, target json default null, at timestamptz default clock_timestamp()
)
returns table (id text, result text)
language plpgsql volatile
set enable_seqscan = off set enable_bitmapscan = off set jit = off set lock_timeout = '200ms'
as $f$
#variable_conflict use_column
declare
  dropped uuid[];
begin
  perform orchestratum.require_read_committed();
  with locked as materialized (
    select l.*
    from (select distinct v::uuid as id from json_array_elements_text(drop_dead_letters.ids) v) asked
    cross join lateral (
      select h.tableoid as part, h.ctid as row
      from orchestratum.history h
      where h.id = asked.id and h.status in ('failed', 'timed_out', 'not_found')
      for update skip locked
    ) l
  ),
  gone as (
    delete from orchestratum.history h
    using locked
    where h.ctid = locked.row and h.tableoid = locked.part
    returning h.id
  )
  select coalesce(array_agg(g.id), '{}') into dropped from gone g;
  perform orchestratum.record_act(drop_dead_letters.at, drop_dead_letters.by_whom, 'drop', drop_dead_letters.target, dropped);

  return query
  select
    asked.id::text,
    case
      when asked.id = any (dropped) then 'dropped'
      when live.id is not null then 'unfinished'
      when past.status in ('failed', 'timed_out', 'not_found') then 'busy'
      when past.status is not null then 'kept'
      else 'unknown'
    end
  from (select distinct v::uuid as id from json_array_elements_text(drop_dead_letters.ids) v) asked
  left join lateral (select c.id from orchestratum.command c where c.id = asked.id limit 1) live on true
  left join lateral (select h.status from orchestratum.history h where h.id = asked.id limit 1) past on true;
end $f$;
