-- What waits in each queue: due commands and since when the oldest has been available, leases that are over and were not taken up, and how many
-- workers that run serve it. Hook commands are counted: they need a worker, too.
select
  live.queue,
  live.commands::float8 as commands,
  live.pending::float8 as pending,
  (extract(epoch from clock.at - live.oldest_at) * 1000)::float8 as overdue_ms,
  live.expired::float8 as expired,
  (extract(epoch from clock.at - live.oldest_expired_at) * 1000)::float8 as expired_ms,
  live.expired_worker,
  exists (select from orchestratum.paused_queue p where p.queue = live.queue) as paused,
  (
    select count(*)
    from orchestratum.worker w
    where live.queue = any (w.queues)
      and w.stopped_at is null
      and w.last_seen_at >= clock.at - w.lost_after_ms * interval '1 millisecond'
  )::float8 as workers
from (select clock_timestamp() as at) clock
cross join lateral (
  select
    c.queue,
    count(*) as commands,
    count(*) filter (where c.available_at <= clock.at) as pending,
    min(c.available_at) filter (where c.available_at <= clock.at) as oldest_at,
    count(*) filter (where c.available_at <= clock.at and c.leased_by is not null) as expired,
    min(c.available_at) filter (where c.available_at <= clock.at and c.leased_by is not null) as oldest_expired_at,
    max(c.leased_by) filter (where c.available_at <= clock.at) as expired_worker
  from orchestratum.command c
  group by c.queue
) live
order by live.queue
limit 10000
