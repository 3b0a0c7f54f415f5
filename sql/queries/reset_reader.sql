-- Sets the checkpoint of a reader's generation in use. $1 name, $2 position. Whoever holds its lease has lost it. Answers whether there is one.
with reset as (
  update orchestratum.reader r
  set position = $2::text::bigint,
      fence = r.fence + 1,
      leased_by = null,
      available_at = (select clock_timestamp()),
      failures = 0,
      last_error = null
  where r.name = $1::text and not r.building
  returning r.generation
)
select exists (select from reset) as known
