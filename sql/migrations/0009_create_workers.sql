-- Who works, and how it goes, as a person wants to read it.
insert into orchestratum.migration (version, name) values (9, 'create_workers');

-- Every worker says that it is there: when it starts, once a minute while it works, with every poll while it idles, and when it stops. Never with
-- a claim, a heartbeat or an outcome. The duty `retention` takes out those that have not been heard of for a day.
create table orchestratum.worker (
  id text primary key,                  -- new at every start
  instance text,
  runtime text,                         -- 'node 24.1.0'; null: nobody said
  host text,
  queues text[] not null,
  concurrency int not null,
  running int not null,                 -- handlers, when it was last seen
  lost_after_ms int not null check (lost_after_ms > 0),  -- not seen for this long, it counts as lost
  started_at timestamptz not null,
  last_seen_at timestamptz not null,
  stopped_at timestamptz                -- null: it has not said so
) with (fillfactor = 50);               -- few rows, updated for ever: room for them to stay on their page

-- Workers, with what they run by the leases they hold, and what of them ended in the last 24 hours, hook commands left out, as stats() tells it.
create view orchestratum.all_workers as
select
  w.id, w.instance,
  case
    when w.stopped_at is not null then 'stopped'
    when w.last_seen_at < clock.at - w.lost_after_ms * interval '1 millisecond' then 'lost'
    else 'running'
  end as status,
  w.runtime, w.host, w.queues, w.concurrency,
  coalesce(live.running, 0) as running,
  coalesce(past.finished, 0)::bigint as finished, coalesce(past.failed, 0)::bigint as failed, coalesce(past.cancelled, 0)::bigint as cancelled,
  past.mean_execution_ms,
  w.started_at, w.last_seen_at, w.stopped_at
from orchestratum.worker w
cross join (select clock_timestamp() as at) clock
left join (
  select c.leased_by as worker, count(*) as running
  from orchestratum.command c
  cross join (select clock_timestamp() as at) clock
  where c.leased_by is not null and c.available_at > clock.at and c.hook is null
  group by c.leased_by
) live on live.worker = w.id
left join (
  select
    s.worker,
    sum(s.count) filter (where s.status = 'succeeded') as finished,
    sum(s.count) filter (where s.status not in ('succeeded', 'cancelled')) as failed,
    sum(s.count) filter (where s.status = 'cancelled') as cancelled,
    sum(s.execution_ms) / nullif(sum(s.executed), 0) as mean_execution_ms
  from orchestratum.statistic_worker s
  cross join (
    select
      date_bin('5 minutes', c.at - interval '24 hours', '2000-01-01 00:00:00+00') + interval '5 minutes' as since,
      date_bin('1 hour', c.at - interval '24 hours', '2000-01-01 00:00:00+00') + interval '1 hour' as first_hour
    from (select clock_timestamp() as at) c
  ) day
  where s.hook = ''
    and (s.span = 5 and s.started_at >= day.since and s.started_at < day.first_hour or s.span = 60 and s.started_at >= day.first_hour)
  group by s.worker
) past on past.worker = w.id;

-- Queues in which something lives or ended in the last 24 hours, that a worker serves, or that are paused; hook commands left out.
create view orchestratum.all_queues as
select
  q.queue,
  coalesce(served.workers, 0) as workers,
  paused.paused_at, paused.paused_by,
  coalesce(live.scheduled, 0) as scheduled, coalesce(live.pending, 0) as pending, coalesce(live.running, 0) as running, live.oldest_due_at,
  coalesce(past.finished, 0)::bigint as finished, coalesce(past.failed, 0)::bigint as failed, coalesce(past.cancelled, 0)::bigint as cancelled,
  past.waiting_ms / nullif(executed.count, 0) as mean_waiting_ms,
  past.execution_ms / nullif(executed.count, 0) as mean_execution_ms
from (
  select c.queue from orchestratum.command c where c.hook is null
  union
  select k.queue from orchestratum.paused_queue k
  union
  select unnest(w.queues) from orchestratum.worker w
  union
  select s.queue
  from orchestratum.statistic s
  cross join (select clock_timestamp() as at) c
  where s.hook = '' and s.span = 60 and s.started_at >= c.at - interval '24 hours'
) q
left join orchestratum.paused_queue paused on paused.queue = q.queue
left join (
  select unnest(w.queues) as queue, count(*) as workers
  from orchestratum.worker w
  cross join (select clock_timestamp() as at) clock
  where w.stopped_at is null and w.last_seen_at >= clock.at - w.lost_after_ms * interval '1 millisecond'
  group by 1
) served on served.queue = q.queue
left join (
  select
    c.queue,
    count(*) filter (where c.available_at > clock.at and c.leased_by is null) as scheduled,
    count(*) filter (where c.available_at <= clock.at) as pending,
    count(*) filter (where c.available_at > clock.at and c.leased_by is not null) as running,
    min(c.due_at) filter (where c.available_at <= clock.at) as oldest_due_at
  from orchestratum.command c
  cross join (select clock_timestamp() as at) clock
  where c.hook is null
  group by c.queue
) live on live.queue = q.queue
left join (
  select
    s.queue,
    sum(s.count) filter (where s.status = 'succeeded') as finished,
    sum(s.count) filter (where s.status not in ('succeeded', 'cancelled')) as failed,
    sum(s.count) filter (where s.status = 'cancelled') as cancelled,
    sum(s.waiting_ms) as waiting_ms,
    sum(s.execution_ms) as execution_ms
  from orchestratum.statistic s
  cross join (
    select
      date_bin('5 minutes', c.at - interval '24 hours', '2000-01-01 00:00:00+00') + interval '5 minutes' as since,
      date_bin('1 hour', c.at - interval '24 hours', '2000-01-01 00:00:00+00') + interval '1 hour' as first_hour
    from (select clock_timestamp() as at) c
  ) day
  where s.hook = ''
    and (s.span = 5 and s.started_at >= day.since and s.started_at < day.first_hour or s.span = 60 and s.started_at >= day.first_hour)
  group by s.queue
) past on past.queue = q.queue
left join (
  select s.queue, sum(h.value::bigint) as count
  from orchestratum.statistic s
  cross join (
    select
      date_bin('5 minutes', c.at - interval '24 hours', '2000-01-01 00:00:00+00') + interval '5 minutes' as since,
      date_bin('1 hour', c.at - interval '24 hours', '2000-01-01 00:00:00+00') + interval '1 hour' as first_hour
    from (select clock_timestamp() as at) c
  ) day
  cross join lateral jsonb_each_text(s.execution) h
  where s.hook = ''
    and (s.span = 5 and s.started_at >= day.since and s.started_at < day.first_hour or s.span = 60 and s.started_at >= day.first_hour)
  group by s.queue
) executed on executed.queue = q.queue;

-- Background work: who is at it, when it was last done and how that went.
create view orchestratum.all_duties as
select
  d.name,
  case when d.lease_ends_at > clock.at then d.leased_by end as worker,
  d.next_run_at, d.last_started_at, d.last_finished_at, d.last_duration_ms, d.last_worker, d.last_error
from orchestratum.duty d
cross join (select clock_timestamp() as at) clock;
