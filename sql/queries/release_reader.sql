-- Ends a reader's lease. $1 name, $2 generation, $3 process, $4 fence, $5 in how many ms somebody may take it, $6 the error that ended it or
-- null, $7 the last position that has been dealt with. No row where the lease is not this process's, or the row is locked.
with clock as materialized (
  select clock_timestamp() as at
),
held as materialized (
  select r.ctid as row
  from orchestratum.reader r
  where r.name = $1::text and r.generation = $2::int and r.fence = $4::int and r.leased_by = $3::text
  for update of r skip locked
)
update orchestratum.reader r
set leased_by = null,
    available_at = clock.at + $5::float8 * interval '1 millisecond',
    position = greatest(r.position, $7::text::bigint),
    failures = r.failures + case when $6::text is null then 0 else 1 end,
    last_error = coalesce($6::text, r.last_error),
    last_failed_at = case when $6::text is null then r.last_failed_at else clock.at end
from clock
where r.ctid = any (array(select held.row from held))
returning r.name
