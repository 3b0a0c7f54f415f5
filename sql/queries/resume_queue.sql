-- Resumes a queue. $1 queue, $2 who did it or null. Answers whether it was paused.
with resumed as (
  delete from orchestratum.paused_queue p
  where p.queue = $1::text
  returning p.queue
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
  select (select clock_timestamp()), $2::text, 'resume', json_build_object('queue', resumed.queue), waiting.commands
  from resumed
  cross join waiting
)
select exists (select from resumed) as changed
