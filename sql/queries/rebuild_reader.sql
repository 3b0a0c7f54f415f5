-- Begins a rebuild of a reader beside what is in use, unless one is under way. $1 name, $2 the position that it begins after. Answers the
-- generation that is being built; no row where there is no such reader, or where another call has begun one at this moment: asked again, it
-- answers that one. A generation that was given up keeps its number: what it wrote may still be there.
with next as (
  update orchestratum.reader r
  set newest = r.newest + 1
  where r.name = $1::text
    and not r.building
    and not exists (select from orchestratum.reader other where other.name = $1::text and other.building)
  returning r.name, r.newest
),
begun as (
  insert into orchestratum.reader (name, generation, newest, building, position, available_at, created_at)
  select n.name, n.newest, n.newest, true, $2::text::bigint, (select clock_timestamp()), (select clock_timestamp())
  from next n
  on conflict do nothing
  returning generation
)
select b.generation, true as begun
from begun b
union all
select r.generation, false
from orchestratum.reader r
where r.name = $1::text and r.building
