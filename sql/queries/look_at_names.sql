-- Names and versions of live commands for which no worker has said lately that it has a handler. While no worker runs at all, nobody can have.
select
  live.name, live.version, live.commands::float8 as commands, (extract(epoch from known.seen_at) * 1000)::float8 as seen_ms
from (
  select c.name, c.version, count(*) as commands from orchestratum.command c group by c.name, c.version
) live
cross join (select clock_timestamp() as at) clock
cross join lateral (
  select max(w.lost_after_ms) as lost_after_ms
  from orchestratum.worker w
  where w.stopped_at is null and w.last_seen_at >= clock.at - w.lost_after_ms * interval '1 millisecond'
) there
cross join lateral (
  select max(h.seen_at) as seen_at
  from orchestratum.handler h
  where h.name = live.name and (h.version = live.version or h.upgrades and h.version > live.version)
) known
where (
    known.seen_at is null
    or there.lost_after_ms is not null
      and known.seen_at < clock.at - greatest(interval '3 minutes', 2 * there.lost_after_ms * interval '1 millisecond')
  )
  and not exists (select from orchestratum.paused_name p where p.name = live.name)
order by live.name, live.version
limit 10000
