-- For those who wait for the end of commands. ids: ["…"]. Answers for each 'waiting' (it is marked: its finish will say that somebody waits,
-- and be followed by a notification), 'busy' (somebody has it locked: ask again), 'finished' with how it ended, or 'unknown'.
-- The row's lock decides: either the finish sees the mark, or this sees history. It waits for no row lock, and marks each row once.
create function orchestratum.wait_for(ids json)
returns table (id text, result text, name text, version smallint, status text, output text, trail text, finished_at text)
language plpgsql volatile
set enable_seqscan = off set enable_bitmapscan = off set jit = off set plan_cache_mode = force_generic_plan set datestyle = 'ISO' set timezone = 'UTC'
as $f$
#variable_conflict use_column
declare
  marked uuid[];
begin
  perform orchestratum.require_read_committed();
  with locked as materialized (
    select l.*
    from (select distinct v::uuid as id from json_array_elements_text(wait_for.ids) v) asked
    cross join lateral (
      select c.ctid as row
      from orchestratum.command c
      where c.id = asked.id and not c.awaited
      for update skip locked
    ) l
  ),
  changed as (
    update orchestratum.command c
    set awaited = true
    from locked
    where c.ctid = locked.row
    returning c.id
  )
  select array_agg(x.id) into marked from changed x;

  return query
  select
    asked.id::text,
    case
      when past.id is not null then 'finished'
      when live.awaited or asked.id = any (marked) then 'waiting'
      when live.id is not null then 'busy'
      else 'unknown'
    end,
    coalesce(past.name, live.name), coalesce(past.version, live.version), past.status, past.output::text, past.trail::text,
    past.finished_at::text
  from (select distinct v::uuid as id from json_array_elements_text(wait_for.ids) v) asked
  left join lateral (
    select c.id, c.name, c.version, c.awaited from orchestratum.command c where c.id = asked.id limit 1
  ) live on true
  left join lateral (
    select h.id, h.name, h.version, h.status, h.output, h.trail, h.finished_at from orchestratum.history h where h.id = asked.id limit 1
  ) past on true;
end $f$;
