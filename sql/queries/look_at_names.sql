-- Names and versions of live commands for which no worker has said lately that it has a handler, in whatever queue; and queues in which some wait
-- for which only workers of other queues (`handled_in`) have one. While no worker runs at all, nobody can have.
with live as materialized (
  select c.queue, c.name, c.version, count(*) as commands
  from orchestratum.command c
  where not exists (select from orchestratum.paused_name p where p.name = c.name)
  group by c.queue, c.name, c.version
),
known as materialized (
  select named.name, named.version, named.commands, seen.seen_at,
    seen.seen_at is not null and (
      there.lost_after_ms is null
      or seen.seen_at >= clock.at - greatest(interval '3 minutes', 2 * there.lost_after_ms * interval '1 millisecond')
    ) as is_known
  from (select l.name, l.version, sum(l.commands) as commands from live l group by l.name, l.version) named
  cross join (select clock_timestamp() as at) clock
  cross join lateral (
    select max(w.lost_after_ms) as lost_after_ms
    from orchestratum.worker w
    where w.stopped_at is null and w.last_seen_at >= clock.at - w.lost_after_ms * interval '1 millisecond'
  ) there
  cross join lateral (
    select max(h.seen_at) as seen_at
    from orchestratum.handler h
    where h.name = named.name and (h.version = named.version or h.upgrades and h.version > named.version)
  ) seen
)
select
  k.name, k.version, k.commands::float8 as commands, (extract(epoch from k.seen_at) * 1000)::float8 as seen_ms,
  null::text as queue, null::text as handled_in
from known k
where not k.is_known
union all
select
  k.name, k.version, l.commands::float8, (extract(epoch from k.seen_at) * 1000)::float8, l.queue, other.queues::text
from known k
join live l on l.name = k.name and l.version = k.version
cross join lateral (select orchestratum.handled_elsewhere(l.queue, l.name, l.version) as queues) other
where k.is_known and other.queues is not null
order by 1, 2, 5
limit 10000
