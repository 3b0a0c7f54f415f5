-- Leases what of a reader is free: the generation in use, and one that is being built. $1 process, $2 name, $3 lease in ms, $4 generations that
-- this process runs already. Answers each generation: taken by this call or not, and in how many ms it may be free. A row that is locked is
-- somebody else's at this moment.
with clock as materialized (
  select clock_timestamp() as at
),
free as materialized (
  select r.ctid as row
  from orchestratum.reader r
  cross join clock
  where r.name = $2::text
    and r.paused_at is null
    and r.available_at <= clock.at
    and r.generation not in (select v::int from json_array_elements_text($4::text::json) v)
  for update of r skip locked
),
taken as (
  update orchestratum.reader r
  set leased_by = $1::text,
      available_at = clock.at + $3::int * interval '1 millisecond',
      fence = r.fence + 1
  from clock
  where r.ctid = any (array(select free.row from free))
  returning r.generation, r.fence
)
select
  r.generation, r.building, r.position::text, taken.generation is not null as taken, taken.fence, r.failures,
  greatest(extract(epoch from r.available_at - clock.at) * 1000, 0)::float8 as free_in_ms
from orchestratum.reader r
cross join clock
left join taken on taken.generation = r.generation
where r.name = $2::text
