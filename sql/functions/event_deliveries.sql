-- The deliveries of an event: of each subscription that there is or was, the command by which it got it, where there is one. Found by the id
-- that follows from both, so that it does not matter what the subscription's patterns are by now.
create function orchestratum.event_deliveries(event_id uuid, at timestamptz default clock_timestamp())
returns table (
  subscription text, id text, status text, attempt smallint, max_attempts smallint, finished_at text, trail text
)
language sql stable
set enable_seqscan = off set enable_bitmapscan = off set jit = off set datestyle = 'ISO' set timezone = 'UTC'
as $f$
  select s.name, one.id::text, one.status, one.attempt, one.max_attempts, one.finished_at::text, (one.trail -> -1)::text
  from orchestratum.subscription s
  cross join lateral (select orchestratum.delivery_id(event_deliveries.event_id, s.name) as id) wanted
  cross join lateral (
    select *
    from (
      select *
      from (
        select
          c.id, case when c.available_at <= event_deliveries.at then 'pending' when c.leased_by is null then 'scheduled' else 'running' end as status,
          least(c.attempt, c.max_attempts) as attempt, c.max_attempts, null::timestamptz as finished_at, c.trail
        from orchestratum.command c
        where c.id = wanted.id
        limit 1
      ) live
      union all
      select *
      from (
        select h.id, h.status, h.attempt, h.max_attempts, h.finished_at, h.trail
        from orchestratum.history h
        where h.id = wanted.id
        limit 1
      ) past
    ) either
    limit 1
  ) one
  order by s.name
$f$;
