-- Pauses a queue. $1 queue, $2 who did it or null. Answers whether it was not paused before.
with paused as (
  insert into orchestratum.paused_queue (queue, paused_at, paused_by)
  values ($1::text, (select clock_timestamp()), $2::text)
  on conflict (queue) do nothing
  returning paused_queue.queue, paused_queue.paused_at
),
waiting as (
  select count(*)::int as commands
  from (
    select
    from orchestratum.command c
    where c.queue = $1::text and (c.leased_by is null or c.available_at <= (select clock_timestamp()))
    limit 10000
  ) counted
),
noted as (
  insert into orchestratum.act (at, by_whom, kind, target, affected)
  select paused.paused_at, $2::text, 'pause', json_build_object('queue', paused.queue), waiting.commands
  from paused
  cross join waiting
)
select exists (select from paused) as changed
