-- Begins a rebuild of a reader beside what is in use, unless one is under way. $1 name, $2 the position that it begins after. Answers the
-- generation that is being built; no row where there is no such reader.
with begun as (
  insert into orchestratum.reader (name, generation, building, position, available_at, created_at)
  select r.name, r.generation + 1, true, $2::text::bigint, (select clock_timestamp()), (select clock_timestamp())
  from orchestratum.reader r
  where r.name = $1::text and not r.building
  on conflict do nothing
  returning generation
)
select b.generation, true as begun
from begun b
union all
select r.generation, false
from orchestratum.reader r
where r.name = $1::text and r.building
