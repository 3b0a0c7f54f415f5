-- Every queue with live commands, and every one that is paused; with those of the names that are paused by themselves of which commands live
-- there. $1: count hook commands, too. One read of all that lives.
with live as (
  select
    c.queue, c.name,
    count(*) filter (where c.available_at > clock.at and c.leased_by is null) as scheduled,
    count(*) filter (where c.available_at <= clock.at) as pending,
    count(*) filter (where c.available_at > clock.at and c.leased_by is not null) as running
  from orchestratum.command c
  cross join (select clock_timestamp() as at) clock
  where $1::boolean or c.hook is null
  group by c.queue, c.name
),
counted as (
  select
    live.queue, sum(live.scheduled) as scheduled, sum(live.pending) as pending, sum(live.running) as running,
    json_agg(n.name order by n.name) filter (where n.name is not null) as paused_names
  from live
  left join orchestratum.paused_name n on n.name = live.name
  group by live.queue
)
select
  coalesce(counted.queue, p.queue) as queue, (to_json(p.paused_at at time zone 'UTC') #>> '{}') || 'Z' as paused_at, p.paused_by,
  coalesce(counted.scheduled, 0)::float8 as scheduled, coalesce(counted.pending, 0)::float8 as pending,
  coalesce(counted.running, 0)::float8 as running, coalesce(counted.paused_names, '[]')::text as paused_names
from counted
full join orchestratum.paused_queue p on p.queue = counted.queue
order by 1
