-- Forgets a reader ($1), its checkpoint among it. Answers whether there was one; its holder finds its row gone.
with gone as (
  delete from orchestratum.reader r where r.name = $1::text returning r.generation
)
select exists (select from gone) as changed
