-- Cancels commands wherever they are. Answers 'cancelled' (it was waiting: ended here and now, no worker needed), 'requested' (a worker
-- holds it and will be told), 'busy' (somebody else has it locked: ask again), 'finished' (too late) or 'unknown'.
-- It waits for no row lock: with a thousand rows in hand, one open transaction would stop the heartbeats of all the others.
-- What nobody holds is leased to the canceller and ended by finish, so that there is one path to every final status.
-- Rows without an id tell what to hint at, as in finish.
-- It is noted as an act where somebody says who did it, or what the commands were found by.
create function orchestratum.cancel(ids json, by_whom text default null, target json default null)
returns table (id text, result text, awaited boolean, queue text, available_at text)
language plpgsql volatile
set enable_seqscan = off set enable_bitmapscan = off set jit = off
set datestyle = 'ISO' set timezone = 'UTC' set lock_timeout = '200ms'
as $f$
#variable_conflict use_column
declare
  at timestamptz := clock_timestamp();
  free json;
  asked uuid[];
begin
  perform orchestratum.require_read_committed();
  with locked as materialized (
    select l.*
    from (select distinct v::uuid as id from json_array_elements_text(cancel.ids) v) asked
    cross join lateral (
      select c.ctid as row, c.leased_by is null or c.available_at <= at as free
      from orchestratum.command c
      where c.id = asked.id
      for update skip locked
    ) l
  ),
  changed as (
    update orchestratum.command c
    set cancel_requested_at = coalesce(c.cancel_requested_at, at),
        fence = c.fence + locked.free::int,
        losses = c.losses + (locked.free and c.leased_by is not null)::int,
        trail = case when locked.free then orchestratum.trail_lost(c, at) else c.trail end,
        leased_by = case when locked.free then 'cancel' else c.leased_by end
    from locked
    where c.ctid = locked.row
    returning c.id, c.fence, locked.free
  )
  select
    coalesce(json_agg(json_build_object('id', x.id, 'fence', x.fence, 'verdict', 'cancelled')) filter (where x.free), '[]'),
    coalesce(array_agg(x.id) filter (where not x.free), '{}')
  into free, asked
  from changed x;

  return query
  with ended as materialized (
    select f.* from orchestratum.finish('cancel', free) f
  ),
  noted as (
    insert into orchestratum.act (at, by_whom, kind, target, affected)
    select
      at, cancel.by_whom, 'cancel', coalesce(cancel.target, json_build_object('ids', to_json(done.ids[1:20]))), cardinality(done.ids)
    from (select asked || array(select ended.id::uuid from ended where ended.result = 'accepted') as ids) done
    where cardinality(done.ids) > 0 and (cancel.by_whom is not null or cancel.target is not null)
  )
  select
    v::text,
    case
      when ended.id is not null then 'cancelled'
      when v::uuid = any (asked) then 'requested'
      when live.id is not null then 'busy'
      when past.id is not null then 'finished'
      else 'unknown'
    end,
    coalesce(ended.awaited, false), null, null
  from (select distinct v::uuid::text as v from json_array_elements_text(cancel.ids) v) ids
  left join ended on ended.id = v and ended.result = 'accepted'
  left join lateral (select c.id from orchestratum.command c where c.id = v::uuid limit 1) live on true
  left join lateral (select h.id from orchestratum.history h where h.id = v::uuid limit 1) past on true
  union all
  select null, 'due', null, ended.queue, ended.available_at from ended where ended.id is null;
end $f$;
