-- Leases one duty that is due among these. $1 worker, $2 names, $3 lease in ms. Answers each name: taken by this call or not, with which fence,
-- and in how many ms it is due (or its lease ends) otherwise. A row that is locked is somebody else's at this moment.
with clock as materialized (
  select clock_timestamp() as at
),
due as materialized (
  select d.ctid as row
  from orchestratum.duty d
  cross join clock
  where d.name in (select json_array_elements_text($2::text::json))
    and d.next_run_at <= clock.at
    and (d.lease_ends_at is null or d.lease_ends_at <= clock.at)
  order by d.next_run_at
  limit 1
  for update of d skip locked
),
taken as (
  update orchestratum.duty d
  set leased_by = $1::text,
      lease_ends_at = clock.at + $3::int * interval '1 millisecond',
      fence = d.fence + 1,
      last_started_at = clock.at
  from clock
  where d.ctid = any (array(select due.row from due))
  returning d.name, d.fence
)
select
  d.name, taken.name is not null as taken, taken.fence,
  greatest(extract(epoch from greatest(d.next_run_at, d.lease_ends_at) - clock.at) * 1000, 0)::float8 as due_in_ms
from orchestratum.duty d
cross join clock
left join taken on taken.name = d.name
where d.name in (select json_array_elements_text($2::text::json))
