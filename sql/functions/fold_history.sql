-- Adds what has newly finished to the statistics: at most about `max_rows` commands, oldest first. Answers how many, whether there are `more`
-- to be folded at once, and whether some that ended `later` are left for another time. Called by a duty, again while there is more.
--
-- It stays `lag_ms` behind the clock: a command has its time when its outcome is written, and appears when that commits, which a handler's
-- own transaction does a lease's length later at most. What would appear behind `folded_until` would never be counted. A clock of the
-- caller's cannot take it into the future.
-- Rows and `folded_until` commit together, and whoever folds holds the lock of the one row that says how far, and looks only then: each
-- command is counted once, whoever dies and however many fold at once. Who finds it locked leaves it to the other.
-- It counts no further back than a day: that is all anybody is told of. Rows over 25 hours old go.
-- A step ends before the time of the first command that is too many, so that those of one time are never divided. Where that are more than a
-- step's (somebody wrote them by SQL), they are a step of their own.
create function orchestratum.fold_history(lag_ms int, max_rows int default 50000, at timestamptz default clock_timestamp())
returns table (folded int, more boolean, later boolean)
language plpgsql volatile
set enable_seqscan = off set enable_bitmapscan = off set jit = off set datestyle = 'ISO' set timezone = 'UTC'
as $f$
declare
  since timestamptz;
  target timestamptz := least(at, clock_timestamp()) - lag_ms * interval '1 millisecond';
  until timestamptz;
begin
  folded := 0;
  more := false;
  later := false;
  perform orchestratum.require_read_committed();
  perform from orchestratum.statistic_fold f for update skip locked;
  if not found then
    later := true;
    return next;
    return;
  end if;
  select greatest(f.folded_until, target - interval '24 hours') into since from orchestratum.statistic_fold f;

  if since < target then
    select h.finished_at into until
    from orchestratum.history h
    where h.finished_at >= since and h.finished_at < target
    order by h.finished_at
    offset max_rows
    limit 1;
    more := found;
    until := case when more then greatest(until, since + interval '1 microsecond') else target end;

    -- Each command once for how long it waited and once for how long it ran, counted by bucket: of thousands, some dozens are left.
    with counted as materialized (
      select
        date_bin('5 minutes', h.finished_at, '2000-01-01 00:00:00+00') as started_at, h.queue, h.name, coalesce(h.hook, '') as hook, h.status,
        case when h.worker <> 'cancel' then h.worker end as worker, measure.name as measure,
        case when measure.ms < 0.001 then 0 else floor(4 * ln(measure.ms * 1000) / ln(2::float8))::int end as bucket, count(*) as count, sum(measure.ms) as ms
      from orchestratum.history h
      cross join lateral (
        values ('waiting', h.started_at - h.due_at), ('execution', h.finished_at - h.started_at)
      ) taken (name, time)
      cross join lateral (
        select
          taken.name,
          case
            when h.status not in ('succeeded', 'failed', 'timed_out') then null
            when taken.time < interval '0' then 0
            else date_part('epoch', taken.time) * 1000
          end as ms
      ) measure
      where h.finished_at >= since and h.finished_at < until
      group by 1, 2, 3, 4, 5, 6, 7, 8
    ),
    spanned as materialized (
      select
        span.minutes, date_bin(span.minutes * interval '1 minute', c.started_at, '2000-01-01 00:00:00+00') as started_at,
        c.queue, c.name, c.hook, c.status, c.worker, c.measure, c.bucket, c.count, c.ms
      from counted c
      cross join (values (5), (60)) span (minutes)
    ),
    bucketed as (
      select
        s.minutes, s.started_at, s.queue, s.name, s.hook, s.status, s.measure, s.bucket, sum(s.count)::bigint as count, sum(s.ms) as ms
      from spanned s
      group by 1, 2, 3, 4, 5, 6, 7, 8
    ),
    kept as (
      insert into orchestratum.statistic as s (
        span, started_at, queue, name, hook, status, count, waiting_ms, execution_ms, waiting, execution
      )
      select
        b.minutes, b.started_at, b.queue, b.name, b.hook, b.status,
        sum(b.count) filter (where b.measure = 'waiting'),
        coalesce(sum(b.ms) filter (where b.measure = 'waiting'), 0),
        coalesce(sum(b.ms) filter (where b.measure = 'execution'), 0),
        coalesce(jsonb_object_agg(b.bucket, b.count) filter (where b.measure = 'waiting' and b.bucket is not null), '{}'),
        coalesce(jsonb_object_agg(b.bucket, b.count) filter (where b.measure = 'execution' and b.bucket is not null), '{}')
      from bucketed b
      group by b.minutes, b.started_at, b.queue, b.name, b.hook, b.status
      on conflict on constraint statistic_pkey do update
      set count = s.count + excluded.count,
          waiting_ms = s.waiting_ms + excluded.waiting_ms,
          execution_ms = s.execution_ms + excluded.execution_ms,
          waiting = orchestratum.histogram_add(s.waiting, excluded.waiting),
          execution = orchestratum.histogram_add(s.execution, excluded.execution)
    ),
    bucketed_of_workers as (
      select
        s.minutes, s.started_at, s.worker, s.hook, s.status, s.measure, s.bucket, sum(s.count)::bigint as count, sum(s.ms) as ms
      from spanned s
      where s.worker is not null
      group by 1, 2, 3, 4, 5, 6, 7
    ),
    kept_of_workers as (
      insert into orchestratum.statistic_worker as w (
        span, started_at, worker, hook, status, count, executed, waiting_ms, execution_ms, waiting, execution
      )
      select
        b.minutes, b.started_at, b.worker, b.hook, b.status,
        sum(b.count) filter (where b.measure = 'execution'),
        coalesce(sum(b.count) filter (where b.measure = 'execution' and b.bucket is not null), 0),
        coalesce(sum(b.ms) filter (where b.measure = 'waiting'), 0),
        coalesce(sum(b.ms) filter (where b.measure = 'execution'), 0),
        coalesce(jsonb_object_agg(b.bucket, b.count) filter (where b.measure = 'waiting' and b.bucket is not null), '{}'),
        coalesce(jsonb_object_agg(b.bucket, b.count) filter (where b.measure = 'execution' and b.bucket is not null), '{}')
      from bucketed_of_workers b
      group by b.minutes, b.started_at, b.worker, b.hook, b.status
      on conflict on constraint statistic_worker_pkey do update
      set count = w.count + excluded.count,
          executed = w.executed + excluded.executed,
          waiting_ms = w.waiting_ms + excluded.waiting_ms,
          execution_ms = w.execution_ms + excluded.execution_ms,
          waiting = orchestratum.histogram_add(w.waiting, excluded.waiting),
          execution = orchestratum.histogram_add(w.execution, excluded.execution)
    )
    select coalesce(sum(c.count), 0)::int into folded from counted c where c.measure = 'waiting';

    update orchestratum.statistic_fold f set folded_until = until;
    delete from orchestratum.statistic s where s.span in (5, 60) and s.started_at < target - interval '25 hours';
    delete from orchestratum.statistic_worker w where w.span in (5, 60) and w.started_at < target - interval '25 hours';
  end if;

  later := exists (
    select from orchestratum.history h where h.finished_at >= greatest(since, target) order by h.finished_at limit 1
  );
  return next;
end $f$;
