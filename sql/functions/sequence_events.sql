-- Gives committed events their positions in the log, at most `max_count` of them. Whoever reads the log runs it first, in a transaction of
-- its own: a position that is handed out before it has committed could be another event's after a crash. A second runner finds the head
-- locked and places nothing, which is as good. Answers how many were placed, how far the log reaches as far as can be seen, and whether
-- somebody else was placing at this moment, so that there may be more in it soon; where there is nothing to place nothing is written, and
-- no lock taken.
-- Why positions follow streams: version 2 can only be appended after version 1 committed (the row in `stream` is locked), so a snapshot
-- that shows version 2 shows version 1 or finds it placed already, and version 1 has the smaller seq. An order by transaction id would not
-- do: a transaction has its id before it appends, and ids begin anew when a dump is restored.
create function orchestratum.sequence_events(max_count int)
returns table (placed int, head text, busy boolean)
language plpgsql volatile
set enable_seqscan = off set enable_bitmapscan = off set jit = off set plan_cache_mode = force_generic_plan
as $f$
#variable_conflict use_column
begin
  -- In one look with the head: what is gone from the inbox has its place up to there.
  return query
  select 0, h.position::text, false
  from orchestratum.event_head h
  where not exists (select from orchestratum.event_inbox);
  if found then
    return;
  end if;
  return query
  with head as materialized (
    select h.position from orchestratum.event_head h for update skip locked
  ),
  taken as (
    delete from orchestratum.event_inbox i
    using head
    where i.seq = any (array(select x.seq from orchestratum.event_inbox x order by x.seq limit sequence_events.max_count))
    returning i.seq, i.slot, i.event_id
  ),
  given as (
    insert into orchestratum.event_position (position, slot, event_id)
    select head.position + row_number() over (order by taken.seq), taken.slot, taken.event_id
    from taken
    cross join head
    returning position
  ),
  moved as (
    update orchestratum.event_head h
    set position = newest.position
    from (select max(given.position) as position from given) newest
    where newest.position is not null
  )
  select
    (select count(*)::int from given),
    -- Of a row that another one moved after this snapshot only the locked version is the newest.
    coalesce((select max(given.position) from given), (select head.position from head), h.position)::text,
    not exists (select from head)
  from orchestratum.event_head h;
end $f$;
