-- Pauses the commands of a name. $1 name, $2 who did it or null. Answers whether it was not paused before.
-- No index leads to a name: what waits is counted by reading what lives, up to 10,000 of them.
with paused as (
  insert into orchestratum.paused_name (name, paused_at, paused_by)
  values ($1::text, (select clock_timestamp()), $2::text)
  on conflict (name) do nothing
  returning paused_name.name, paused_name.paused_at
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
  select paused.paused_at, $2::text, 'pause', json_build_object('name', paused.name), waiting.commands
  from paused
  cross join waiting
)
select exists (select from paused) as changed
