-- A heartbeat of a reader's lease, and its checkpoint. $1 name, $2 generation, $3 process, $4 fence, $5 lease in ms, $6 the last position that
-- has been dealt with, $7 the position that the handler's own transactions should have recorded. Answers `held`; `busy`, where the row is
-- locked, as by the handler's open transaction, or was until just now; `rolled_back`, where the checkpoint is not as far as $7; `lost`, where the lease is over.
with clock as materialized (
  select clock_timestamp() as at
),
held as materialized (
  select r.ctid as row, r.position
  from orchestratum.reader r
  cross join clock
  where r.name = $1::text
    and r.generation = $2::int
    and r.fence = $4::int
    and r.leased_by = $3::text
    and r.available_at > clock.at
  for update of r skip locked
),
moved as (
  update orchestratum.reader r
  set available_at = clock.at + $5::int * interval '1 millisecond',
      position = greatest(r.position, $6::text::bigint),
      checkpoint_at = case when $6::text::bigint > r.position then clock.at else r.checkpoint_at end,
      failures = case when $6::text::bigint > r.position then 0 else r.failures end,
      last_error = case when $6::text::bigint > r.position then null else r.last_error end
  from clock
  where r.ctid = any (array(select held.row from held where held.position >= $7::text::bigint))
  returning r.paused_at
)
select
  case
    when exists (select from moved) then 'held'
    when exists (select from held where held.position < $7::text::bigint) then 'rolled_back'
    -- It was found in a version that this statement's snapshot does not have: a checkpoint has just committed.
    when exists (select from held) then 'busy'
    when exists (
      select
      from orchestratum.reader r
      cross join clock
      where r.name = $1::text
        and r.generation = $2::int
        and r.fence = $4::int
        and r.leased_by = $3::text
        and r.available_at > clock.at
    ) then 'busy'
    else 'lost'
  end as result,
  (select moved.paused_at is not null from moved) as paused
