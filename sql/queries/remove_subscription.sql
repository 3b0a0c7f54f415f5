-- Ends a subscription ($1): nothing is delivered to it any more. Its row stays, by which its deliveries are found. Answers whether there was one.
with removed as (
  update orchestratum.subscription s
  set removed_at = (select clock_timestamp())
  where s.name = $1::text and s.removed_at is null
  returning s.name
),
patterns as (
  delete from orchestratum.subscription_pattern p
  using removed
  where p.subscription = removed.name
)
select exists (select from removed) as changed
