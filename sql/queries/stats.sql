-- What there is now, and what came of the last 24 hours. $1: hook commands, too. One row; its lists are JSON, its times ms since 1970.
-- `live` is by queue, name, status and, where it runs, worker. `past` is by queue, name and status, and once more by worker and status;
-- `waiting` and `execution` are histograms by queue and name, and by worker.
-- Of the past the hours are read, and five minutes only up to where the first whole hour begins: a twelfth of what five minutes alone would be.
with clock as materialized (
  select clock_timestamp() as at
),
day as materialized (
  select
    clock.at,
    date_bin('5 minutes', clock.at - interval '24 hours', '2000-01-01 00:00:00+00') + interval '5 minutes' as since,
    date_bin('1 hour', clock.at - interval '24 hours', '2000-01-01 00:00:00+00') + interval '1 hour' as first_hour
  from clock
),
live as (
  select l.queue, l.name, l.status, l.worker, l.count, l.oldest_due_at
  from day
  cross join lateral orchestratum.count_live($1::boolean, day.at) l
),
past as materialized (
  select s.queue, s.name, null as worker, s.status, s.count, s.waiting_ms, s.execution_ms, s.waiting, s.execution
  from day
  join orchestratum.statistic s on s.span = 5 and s.started_at >= day.since and s.started_at < day.first_hour
  where $1::boolean or s.hook = ''
  union all
  select s.queue, s.name, null, s.status, s.count, s.waiting_ms, s.execution_ms, s.waiting, s.execution
  from day
  join orchestratum.statistic s on s.span = 60 and s.started_at >= day.first_hour
  where $1::boolean or s.hook = ''
  union all
  select null, null, w.worker, w.status, w.count, w.waiting_ms, w.execution_ms, w.waiting, w.execution
  from day
  join orchestratum.statistic_worker w on w.span = 5 and w.started_at >= day.since and w.started_at < day.first_hour
  where $1::boolean or w.hook = ''
  union all
  select null, null, w.worker, w.status, w.count, w.waiting_ms, w.execution_ms, w.waiting, w.execution
  from day
  join orchestratum.statistic_worker w on w.span = 60 and w.started_at >= day.first_hour
  where $1::boolean or w.hook = ''
),
counted as (
  select
    p.queue, p.name, p.worker, p.status, sum(p.count) as count, sum(p.waiting_ms) as waiting_ms, sum(p.execution_ms) as execution_ms
  from past p
  group by p.queue, p.name, p.worker, p.status
),
waiting as (
  select summed.queue, summed.name, summed.worker, json_object_agg(summed.bucket, summed.count) as histogram
  from (
    select p.queue, p.name, p.worker, h.key as bucket, sum(h.value::bigint) as count
    from past p
    cross join lateral jsonb_each_text(p.waiting) h
    group by p.queue, p.name, p.worker, h.key
  ) summed
  group by summed.queue, summed.name, summed.worker
),
execution as (
  select summed.queue, summed.name, summed.worker, json_object_agg(summed.bucket, summed.count) as histogram
  from (
    select p.queue, p.name, p.worker, h.key as bucket, sum(h.value::bigint) as count
    from past p
    cross join lateral jsonb_each_text(p.execution) h
    group by p.queue, p.name, p.worker, h.key
  ) summed
  group by summed.queue, summed.name, summed.worker
)
select
  (extract(epoch from day.at) * 1000)::float8 as at_ms,
  (extract(epoch from day.since) * 1000)::float8 as since_ms,
  (extract(epoch from (select f.folded_until from orchestratum.statistic_fold f)) * 1000)::float8 as until_ms,
  (
    select json_agg(json_build_object(
      'queue', l.queue, 'name', l.name, 'status', l.status, 'worker', l.worker, 'count', l.count,
      'oldest_due_ms', (extract(epoch from l.oldest_due_at) * 1000)::float8
    ))::text
    from live l
  ) as live,
  (
    select json_agg(json_build_object(
      'queue', c.queue, 'name', c.name, 'worker', c.worker, 'status', c.status, 'count', c.count, 'waiting_ms', c.waiting_ms,
      'execution_ms', c.execution_ms
    ))::text
    from counted c
  ) as past,
  (
    select json_agg(json_build_object('queue', w.queue, 'name', w.name, 'worker', w.worker, 'histogram', w.histogram))::text
    from waiting w
  ) as waiting,
  (
    select json_agg(json_build_object('queue', e.queue, 'name', e.name, 'worker', e.worker, 'histogram', e.histogram))::text
    from execution e
  ) as execution
from day
