-- Events of one stream, from a version (null: from its beginning, or backwards from its end), at most `max_count` and no more than about
-- `max_bytes` of data, in the order asked for. cut: whether there were more that these limits left out by their bytes.
-- A function for the same reason as read_log: what it costs must not depend on how many events there were when its plan was made.
create function orchestratum.read_stream(
  stream text, from_version int, backwards boolean, max_count int, max_bytes int default 8000000
)
returns table (id text, stream_name text, version int, topic text, data text, metadata text, appended_at text, cut boolean)
language sql stable
set enable_seqscan = off set enable_bitmapscan = off set jit = off set datestyle = 'ISO' set timezone = 'UTC'
as $f$
  select
    w.id::text, w.stream, w.version, w.topic, w.data::text, w.metadata::text, w.appended_at::text,
    w.found > count(*) over ()
  from (
    select
      e.id, e.stream, e.version, e.topic, e.data, e.metadata, e.appended_at, e.place,
      sum(e.size) over (order by e.place) - e.size as before,
      count(*) over () as found
    from (
      (
        select f.id, f.stream, f.version, f.topic, f.data, f.metadata, f.appended_at, f.version as place,
          coalesce(octet_length(f.data::text), 0) as size
        from orchestratum.event f
        where not read_stream.backwards
          and f.stream = read_stream.stream
          and f.version >= coalesce(read_stream.from_version, 0)
        order by f.version
        limit read_stream.max_count
      )
      union all
      (
        select b.id, b.stream, b.version, b.topic, b.data, b.metadata, b.appended_at, -b.version,
          coalesce(octet_length(b.data::text), 0)
        from orchestratum.event b
        where read_stream.backwards
          and b.stream = read_stream.stream
          and b.version <= coalesce(read_stream.from_version, 2147483647)
        order by b.version desc
        limit read_stream.max_count
      )
    ) e
  ) w
  -- One that is larger than all that is allowed comes alone.
  where w.before < read_stream.max_bytes
  order by w.place
$f$;
