-- How many events are committed and not placed in the log, counted up to $1 and one, and for how long the first of them.
select
  (select count(*)::float8 from (select from orchestratum.event_inbox i limit $1::int + 1) counted) as events,
  (extract(epoch from (select clock_timestamp()) - first.appended_at) * 1000)::float8 as oldest_ms
from (select) one
left join lateral (
  select found.appended_at
  from (select i.event_id, i.slot from orchestratum.event_inbox i order by i.seq limit 1) head
  cross join lateral (
    select e.appended_at from orchestratum.event e where e.id = head.event_id and e.slot = head.slot limit 1
  ) found
) first on true
