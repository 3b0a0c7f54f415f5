-- Gives up the rebuild of a reader ($1). Answers whether there was one; its holder finds its row gone.
with gone as (
  delete from orchestratum.reader r where r.name = $1::text and r.building returning r.generation
)
select exists (select from gone) as changed
