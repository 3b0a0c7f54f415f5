-- Makes due what workers have put off while its name was paused, 10,000 at a time. $1 name. Answers what to hint at; nothing, where none is left.
-- It waits for no row lock: what somebody has locked comes when it was put off to, five minutes later at most. A microsecond apart, in the
-- order that they had, so that a mark can move among them.
with clock as materialized (
  select clock_timestamp() as at
),
held as materialized (
  select c.ctid as row, c.available_at
  from orchestratum.command c
  cross join clock
  where c.name = $1::text
    and c.unknown_since is not null
    and c.leased_by is null
    and c.available_at > clock.at
  limit 10000
  for update of c skip locked
),
placed as (
  select held.row, (row_number() over (order by held.available_at) - 1) * interval '1 microsecond' as later
  from held
),
released as (
  update orchestratum.command c
  set available_at = clock.at + placed.later,
      unknown_since = null
  from placed
  cross join clock
  where c.ctid = placed.row
  returning c.queue, c.available_at
)
select released.queue, replace(to_json(min(released.available_at) at time zone 'UTC') #>> '{}', 'T', ' ') || '+00' as available_at
from released
group by released.queue
