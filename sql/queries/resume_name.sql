-- Resumes the commands of a name. $1 name, $2 who did it or null. Answers whether it was paused.
with resumed as (
  delete from orchestratum.paused_name n
  where n.name = $1::text
  returning n.name
),
waiting as (
  select count(*)::int as commands
  from (
    select
    from orchestratum.command c
    where c.name = $1::text and (c.leased_by is null or c.available_at <= (select clock_timestamp()))
    limit 10000
  ) counted
),
noted as (
  insert into orchestratum.act (at, by_whom, kind, target, affected)
  select (select clock_timestamp()), $2::text, 'resume', json_build_object('name', resumed.name), waiting.commands
  from resumed
  cross join waiting
)
select exists (select from resumed) as changed
