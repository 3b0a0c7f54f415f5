-- Pauses a reader ($1) with all its generations, or lets it go on ($2 false). Answers whether that changed anything, and whether there is one.
with changed as (
  update orchestratum.reader r
  set paused_at = case when $2::boolean then (select clock_timestamp()) end
  where r.name = $1::text and (r.paused_at is not null) <> $2::boolean
  returning r.generation
)
select exists (select from changed) as changed, exists (select from orchestratum.reader r where r.name = $1::text) as known
