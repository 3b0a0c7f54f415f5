-- The queues (["…"]) of workers that run and have a handler for a name and version, where workers serve this queue and none of them has one.
-- Null where one has, or had within three minutes, since it may be about to come back; where one may have, since an older release does not say;
-- where nobody serves the queue; and where nobody that runs has one.
create function orchestratum.handled_elsewhere(queue text, name text, version smallint, at timestamptz default clock_timestamp())
returns json
language sql stable
as $f$
  with fleet as materialized (
    select
      w.queues,
      w.stopped_at is null and w.last_seen_at >= handled_elsewhere.at - w.lost_after_ms * interval '1 millisecond' as is_there,
      w.last_seen_at >= handled_elsewhere.at - interval '3 minutes' as is_recent,
      handled_elsewhere.queue = any (w.queues) as serves,
      w.handlers is null as is_silent,
      exists (
        select
        from json_to_recordset(w.handlers) h (name text, version smallint, upgrades boolean)
        where h.name = handled_elsewhere.name
          and (h.version = handled_elsewhere.version or h.upgrades and h.version > handled_elsewhere.version)
      ) as has_one
    from orchestratum.worker w
    where w.last_seen_at >= handled_elsewhere.at - greatest(interval '3 minutes', w.lost_after_ms * interval '1 millisecond')
  )
  select json_agg(apart.queue order by apart.queue)
  from (
    select distinct q.queue
    from fleet f
    cross join lateral unnest(f.queues) q (queue)
    where f.is_there and f.has_one
  ) apart
  where exists (select from fleet f where f.serves and f.is_there)
    and not exists (select from fleet f where f.serves and (f.is_there or f.is_recent) and (f.is_silent or f.has_one))
$f$;
