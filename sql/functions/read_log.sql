-- Events after a position, in the order of the log: at most `max_count`, and no more than about `max_bytes` of data. pattern: a regular
-- expression for their topics, null for all; at most `max_scanned` events are looked at for it. The last row is no event: its position
-- (null: that of the event before it, or there was nothing) is how far the log has been read, and where to go on from; `more` tells whether
-- a limit stopped it there.
-- Whoever reads calls sequence_events() first, in a transaction of its own.
-- A function for the same reason as the hot ones: as a join, prepared on an empty log, a read of 1,000 among a million took over 40 s.
create function orchestratum.read_log(
  after bigint, max_count int, pattern text default null, max_scanned int default 10000, max_bytes int default 8000000
)
returns table (event_position text, id text, stream text, version int, topic text, data text, metadata text, appended_at text, more boolean)
language plpgsql stable
set enable_seqscan = off set enable_bitmapscan = off set jit = off set datestyle = 'ISO' set timezone = 'UTC'
as $f$
#variable_conflict use_column
declare
  count int;
begin
  -- The usual case, every topic and no retention, by itself: by the name of its slot an event is found in half the time that it takes among
  -- all slots, and the rows stream through one window. Half of what the statement below takes, all in all.
  if read_log.pattern is null
    and not exists (select from orchestratum.event_position x where x.position > read_log.after and x.slot > 0)
  then
    return query
    select
      w.position::text, w.id::text, w.stream, w.version, w.topic, w.data, w.metadata, w.appended_at::text, null::boolean
    from (
      select
        p.position, e.id, e.stream, e.version, e.topic, e.data, e.metadata, e.appended_at,
        sum(coalesce(octet_length(e.data), 0)) over (order by p.position rows between unbounded preceding and current row)
          - coalesce(octet_length(e.data), 0) as before
      from (
        select x.position, x.event_id
        from orchestratum.event_position_0 x
        where x.position > read_log.after
        order by x.position
        limit read_log.max_count
      ) p
      cross join lateral (
        select v.id, v.stream, v.version, v.topic, v.data::text as data, v.metadata::text as metadata, v.appended_at
        from orchestratum.event_0 v
        where v.id = p.event_id and v.slot = 0
        limit 1
      ) e
    ) w
    where w.before < read_log.max_bytes;
    get diagnostics count = row_count;

    return query
    select
      null, null, null, null::int, null, null, null, null,
      count = read_log.max_count
        or count > 0 and exists (
          select
          from orchestratum.event_position_0 x
          where x.position > read_log.after
          order by x.position
          offset count
        );
    return;
  end if;

  return query
  with found as materialized (
    select
      p.position, e.id, e.stream, e.version, e.topic, e.data, e.metadata, e.appended_at,
      -- The bytes of those before it.
      sum(coalesce(octet_length(e.data), 0)) over (order by p.position rows between unbounded preceding and current row)
        - coalesce(octet_length(e.data), 0) as before
    from (
      select x.position, x.slot, x.event_id
      from orchestratum.event_position x
      where x.position > read_log.after
      order by x.position
      limit case when read_log.pattern is null then read_log.max_count else read_log.max_scanned end
    ) p
    cross join lateral (
      select v.id, v.stream, v.version, v.topic, v.data::text as data, v.metadata::text as metadata, v.appended_at
      from orchestratum.event v
      where v.id = p.event_id and v.slot = p.slot and (read_log.pattern is null or v.topic ~ read_log.pattern)
      limit 1
    ) e
    order by p.position
    limit read_log.max_count
  )
  select
    f.position::text, f.id::text, f.stream, f.version, f.topic, f.data, f.metadata, f.appended_at::text, null::boolean
  from found f
  -- One that is larger than all that is allowed comes alone.
  where f.before < read_log.max_bytes
  union all
  select
    case when part.is_full or read_log.pattern is null then part.last_position else seen.last_position end::text,
    null, null, null, null, null, null, null,
    part.is_full or coalesce(seen.count = read_log.max_scanned, false)
  from (
    select
      max(f.position) filter (where f.before < read_log.max_bytes) as last_position,
      count(*) = read_log.max_count or coalesce(bool_or(f.before >= read_log.max_bytes), false) as is_full
    from found f
  ) part
  left join lateral (
    select max(s.position) as last_position, count(*) as count
    from (
      select x.position
      from orchestratum.event_position x
      where x.position > read_log.after
      order by x.position
      limit read_log.max_scanned
    ) s
  ) seen on read_log.pattern is not null and not part.is_full;
end $f$;
