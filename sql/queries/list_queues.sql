-- Every queue with live commands, hook commands left out, and every one that is paused.
select
  q.queue, p.paused_at::text as paused_at, p.paused_by,
  coalesce(live.scheduled, 0)::float8 as scheduled, coalesce(live.pending, 0)::float8 as pending, coalesce(live.running, 0)::float8 as running
from (
  select c.queue from orchestratum.command c where c.hook is null
  union
  select k.queue from orchestratum.paused_queue k
) q
left join orchestratum.paused_queue p on p.queue = q.queue
left join (
  select
    c.queue,
    count(*) filter (where c.available_at > clock.at and c.leased_by is null) as scheduled,
    count(*) filter (where c.available_at <= clock.at) as pending,
    count(*) filter (where c.available_at > clock.at and c.leased_by is not null) as running
  from orchestratum.command c
  cross join (select clock_timestamp() as at) clock
  where c.hook is null
  group by c.queue
) live on live.queue = q.queue
order by q.queue
