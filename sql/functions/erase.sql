-- Takes a person's data out of finished commands and of what erasable() finds with them, hook commands and deliveries: input, output, what
-- the trail quotes, and all metadata but what ties a chain together. Ids, names, times, statuses and codes stay: that it happened remains.
-- Events stay, too: they are facts, and what is built from them must not change. ids: ["…"].
-- Answers 'erased', 'waiting' or 'running' (it, or one of those, is not finished: that needs its data, and is left alone), 'busy' (locked by
-- somebody: ask again) or 'unknown'. Only 'erased' says that no command has it any more; whatever had finished is erased in any case.
-- What lives of them is found by reading all live commands once a call: an index on their parents would cost every push.
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
    from (select distinct e.id from orchestratum.erasable(wanted) e where e.erased_at is null) one
    cross join lateral (
      select h.tableoid as part, h.ctid as row from orchestratum.history h where h.id = one.id for update skip locked
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
    erase.at, erase.by_whom, 'erase', null, array(select unnest(wanted) intersect select unnest(erased)));

  return query
  with known as materialized (
    select e.root, e.id, e.is_delivery, e.erased_at
    from orchestratum.erasable(wanted) e
  ),
  child as materialized (
    select c.parent_id, c.hook, c.leased_by is not null and c.available_at > at as leased
    from orchestratum.command c
    where (c.hook is not null or starts_with(c.name, 'deliver:')) and c.parent_id in (select known.id from known)
  )
  select
    asked.id::text,
    case
      when live.leased then 'running'
      when live.id is not null then 'waiting'
      when past.id is null then 'unknown'
      when past.erased_at is not null and others.left is null then 'erased'
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
      select known.root, child.leased
      from child
      join known on known.id = child.parent_id
      where child.hook is not null or not known.is_delivery
    ) live
    group by live.root
  ) live on live.id = asked.id
  left join lateral (select h.id, h.erased_at from orchestratum.history h where h.id = asked.id limit 1) past on true
  left join (
    select known.root, count(*) as left
    from known
    where known.id <> known.root and known.erased_at is null
    group by known.root
  ) others on others.root = asked.id;
end $f$;
