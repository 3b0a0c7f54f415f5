-- Events after a position, in the order of the log: at most `max_count`, and no more than about `max_bytes` of data. pattern: a regular
-- expression for their topics, null for all; at most `max_scanned` events are looked at for it. The last row is no event: its position
-- (null: there was nothing) is how far the log has been read, and where to go on from; `more` tells whether a limit stopped it there.
-- Whoever reads calls sequence_events() first, in a transaction of its own.
-- A function for the same reason as the hot ones: as a join, prepared on an empty log, a read of 1,000 among a million took over 40 s.
create function orchestratum.read_log(
  after bigint, max_count int, pattern text default null, max_scanned int default 10000, max_bytes int default 8000000
)
returns table (event_position text, id text, stream text, version int, topic text, data text, metadata text, appended_at text, more boolean)
language sql stable
set enable_seqscan = off set enable_bitmapscan = off set jit = off set datestyle = 'ISO' set timezone = 'UTC'
as $f$
  with placed as materialized (
    select x.position, x.slot, x.event_id
    from orchestratum.event_position x
    where x.position > read_log.after
    order by x.position
    limit case when read_log.pattern is null then read_log.max_count else read_log.max_scanned end
  ),
  found as materialized (
    select
      e.position, e.id, e.stream, e.version, e.topic, e.data, e.metadata, e.appended_at,
      -- The bytes of those before it.
      sum(coalesce(octet_length(e.data), 0)) over (order by e.position rows between unbounded preceding and current row)
        - coalesce(octet_length(e.data), 0) as before
    from (
      -- Slot 0 has everything where no retention is set: by its own name an event is found in half the time that it takes among all slots.
      select p.position, v.id, v.stream, v.version, v.topic, v.data, v.metadata, v.appended_at
      from placed p
      cross join lateral (
        select z.id, z.stream, z.version, z.topic, z.data::text as data, z.metadata::text as metadata, z.appended_at
        from orchestratum.event_0 z
        where z.id = p.event_id and z.slot = 0 and (read_log.pattern is null or z.topic ~ read_log.pattern)
        limit 1
      ) v
      where p.slot = 0
      union all
      select p.position, v.id, v.stream, v.version, v.topic, v.data, v.metadata, v.appended_at
      from placed p
      cross join lateral (
        select r.id, r.stream, r.version, r.topic, r.data::text as data, r.metadata::text as metadata, r.appended_at
        from orchestratum.event r
        where r.id = p.event_id and r.slot = p.slot and (read_log.pattern is null or r.topic ~ read_log.pattern)
        limit 1
      ) v
      where p.slot > 0
    ) e
    order by e.position
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
    select max(p.position) as last_position, count(*) as count from placed p
  ) seen on read_log.pattern is not null and not part.is_full
$f$;
