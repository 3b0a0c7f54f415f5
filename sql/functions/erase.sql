-- Takes a person's data out of finished commands and of their finished hook commands: input, output, what the trail quotes, and all
-- metadata but what ties a chain together. Ids, names, times, statuses and codes stay: that it happened remains. ids: ["…"].
-- Answers 'erased', 'waiting' or 'running' (it, or a hook command of it, is not finished: that needs its data, and is left alone), 'busy'
-- (locked by somebody: ask again) or 'unknown'. Only 'erased' says that nothing is left of it; whatever had finished is erased in any case.
-- Live hook commands are found by reading all live commands once a call: an index on their parents would cost every push.
create function orchestratum.erase(ids json, by_whom text default null, at timestamptz default clock_timestamp())
returns table (id text, result text)
language plpgsql volatile
set enable_seqscan = off set enable_bitmapscan = off set jit = off
set datestyle = 'ISO' set timezone = 'UTC' set lock_timeout = '200ms'
as $f$
#variable_conflict use_column
declare
  erased uuid[];
  wanted uuid[] := array(select distinct v::uuid from json_array_elements_text(erase.ids) v);
begin
  perform orchestratum.require_read_committed();
  with locked as materialized (
    select l.*
    from unnest(wanted) asked (id)
    cross join lateral (
      select h.tableoid as part, h.ctid as row from orchestratum.history h where h.id = asked.id for update skip locked
    ) l
    union all
    select l.*
    from unnest(wanted) asked (id)
    cross join lateral (
      select h.tableoid as part, h.ctid as row
      from orchestratum.history h
      where h.parent_id = asked.id and h.hook is not null
      for update skip locked
    ) l
  ),
  written as (
    update orchestratum.history h
    set input = null,
        output = null,
        erased_at = erase.at,
        metadata = orchestratum.erased_metadata(h.metadata),
        trail = (
          select jsonb_agg(jsonb_build_object(
            'code', entry.value -> 'code', 'message', '(erased)', 'fence', entry.value -> 'fence', 'attempt', entry.value -> 'attempt',
            'worker', entry.value -> 'worker', 'started_at', entry.value -> 'started_at', 'ended_at', entry.value -> 'ended_at'
          ) order by entry.place)
          from jsonb_array_elements(h.trail) with ordinality as entry (value, place)
        )
    from locked
    where h.ctid = locked.row and h.tableoid = locked.part
    returning h.id
  )
  select coalesce(array_agg(w.id), '{}') into erased from written w;
  perform orchestratum.record_act(
    erase.at, erase.by_whom, 'erase', null, array(select v from unnest(wanted) v where v = any (erased)));

  return query
  select
    asked.id::text,
    case
      when live.leased then 'running'
      when live.id is not null then 'waiting'
      when past.id is null then 'unknown'
      when asked.id = any (erased) and hooks.left is null then 'erased'
      else 'busy'
    end
  from unnest(wanted) asked (id)
  left join (
    select live.root as id, bool_or(live.leased) as leased
    from (
      select one.id as root, one.leased
      from unnest(wanted) asked (id)
      cross join lateral (
        select c.id, c.leased_by is not null and c.available_at > at as leased from orchestratum.command c where c.id = asked.id limit 1
      ) one
      union all
      select c.parent_id, c.leased_by is not null and c.available_at > at
      from orchestratum.command c
      where c.hook is not null and c.parent_id in (select unnest(wanted))
    ) live
    group by live.root
  ) live on live.id = asked.id
  left join lateral (select h.id from orchestratum.history h where h.id = asked.id limit 1) past on true
  left join lateral (
    select h.id as left
    from orchestratum.history h
    where h.parent_id = asked.id and h.hook is not null and h.id <> all (erased)
    limit 1
  ) hooks on true;
end $f$;
