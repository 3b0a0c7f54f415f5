-- What decides on whether a command runs: its row, its queue, who serves that, who has a handler, who holds it, and how many come first.
-- No row where there is no such command. Times are ms since 1970. src/explain.ts makes the one sentence of it.
-- `ahead` is counted along command_claim, up to `max_ahead`, in the lanes that a claim reads before it: what has a better priority, and of its
-- own what was available before. A worker counts as there as all_workers says it; a handler as known for as long as workers go by
-- (three minutes), or twice the longest silence that a worker of its queue may keep. `handler_queues`: what handled_elsewhere() answers.
create function orchestratum.explain(id uuid, max_ahead int default 10000, at timestamptz default clock_timestamp())
returns table (
  name text, version smallint, queue text, status text, worker text, attempt smallint, max_attempts smallint, losses smallint,
  at_ms double precision, available_ms double precision, started_ms double precision, finished_ms double precision,
  cancel_requested_ms double precision, unknown_since_ms double precision, fence int, last_entry text,
  queue_paused_ms double precision, queue_paused_by text, name_paused_ms double precision, name_paused_by text,
  serving int, last_served_by text, last_served_ms double precision,
  handler_known boolean, handler_seen_ms double precision, handler_versions text,
  worker_status text, worker_seen_ms double precision, ahead int, handler_queues text
)
language sql stable
set enable_seqscan = off set enable_bitmapscan = off set jit = off set datestyle = 'ISO' set timezone = 'UTC'
as $f$
  with one as materialized (
    select *
    from (
      select *
      from (
        select
          c.name, c.version, c.queue, c.priority,
          case when c.available_at <= explain.at then 'pending' when c.leased_by is null then 'scheduled' else 'running' end as status,
          c.leased_by as worker, least(c.attempt, c.max_attempts) as attempt, c.max_attempts, c.losses, c.available_at, c.started_at,
          null::timestamptz as finished_at, c.cancel_requested_at, c.unknown_since, c.fence, c.trail
        from orchestratum.command c
        where c.id = explain.id
        limit 1
      ) live
      union all
      select *
      from (
        select
          h.name, h.version, h.queue, h.priority, h.status, h.worker, h.attempt, h.max_attempts, h.losses,
          null::timestamptz, h.started_at, h.finished_at, h.cancel_requested_at, null::timestamptz, h.fence, h.trail
        from orchestratum.history h
        where h.id = explain.id
        limit 1
      ) past
    ) either
    limit 1
  ),
  serving as materialized (
    select
      w.id, w.last_seen_at, w.lost_after_ms,
      w.stopped_at is null and w.last_seen_at >= explain.at - w.lost_after_ms * interval '1 millisecond' as is_there
    from orchestratum.worker w
    cross join one
    where one.queue = any (w.queues)
  ),
  known as (
    select
      bool_or(
        (h.version = one.version or h.upgrades and h.version > one.version)
        and h.seen_at >= explain.at - greatest(
          interval '3 minutes',
          2 * (select max(s.lost_after_ms) from serving s where s.is_there) * interval '1 millisecond'
        )
      ) as is_known,
      max(h.seen_at) filter (where h.version = one.version or h.upgrades and h.version > one.version) as seen_at,
      json_agg(h.version order by h.version) as versions
    from one
    cross join lateral (
      select k.version, k.upgrades, k.seen_at from orchestratum.handler k where k.name = one.name
    ) h
  )
  select
    one.name, one.version, one.queue, one.status, one.worker, one.attempt, one.max_attempts, one.losses,
    (extract(epoch from explain.at) * 1000)::float8,
    case when one.available_at < 'infinity' then (extract(epoch from one.available_at) * 1000)::float8 end,
    (extract(epoch from one.started_at) * 1000)::float8,
    (extract(epoch from one.finished_at) * 1000)::float8,
    (extract(epoch from one.cancel_requested_at) * 1000)::float8,
    (extract(epoch from one.unknown_since) * 1000)::float8,
    one.fence, (one.trail -> -1)::text,
    (extract(epoch from paused.paused_at) * 1000)::float8, paused.paused_by,
    (extract(epoch from stopped.paused_at) * 1000)::float8, stopped.paused_by,
    (select count(*)::int from serving s where s.is_there),
    last_served.id, (extract(epoch from last_served.last_seen_at) * 1000)::float8,
    coalesce(known.is_known, false), (extract(epoch from known.seen_at) * 1000)::float8, known.versions::text,
    case
      when held_by.id is null then null
      when held_by.stopped_at is not null then 'stopped'
      when held_by.last_seen_at < explain.at - held_by.lost_after_ms * interval '1 millisecond' then 'lost'
      else 'running'
    end,
    (extract(epoch from held_by.last_seen_at) * 1000)::float8,
    (
      select count(*)::int
      from (
        select
        from generate_series(0, one.priority) p (priority)
        cross join lateral (
          select
          from orchestratum.command c
          where c.queue = one.queue
            and c.priority = p.priority
            and c.available_at <= explain.at
            and (p.priority < one.priority or c.available_at < one.available_at)
          order by c.available_at
          limit explain.max_ahead
        ) due
        where one.status = 'pending'
        limit explain.max_ahead
      ) first
    ),
    case when one.finished_at is null then orchestratum.handled_elsewhere(one.queue, one.name, one.version, explain.at)::text end
  from one
  left join known on true
  left join lateral (select k.paused_at, k.paused_by from orchestratum.paused_queue k where k.queue = one.queue) paused on true
  left join lateral (select k.paused_at, k.paused_by from orchestratum.paused_name k where k.name = one.name) stopped on true
  left join lateral (select s.id, s.last_seen_at from serving s order by s.last_seen_at desc limit 1) last_served on true
  left join lateral (
    select w.id, w.stopped_at, w.last_seen_at, w.lost_after_ms from orchestratum.worker w where w.id = one.worker limit 1
  ) held_by on true
$f$;
