-- Every subscription, those that were removed among them.
select
  s.name, array_to_json(array(select p.pattern from orchestratum.subscription_pattern p where p.subscription = s.name order by p.pattern))::text
    as patterns,
  s.queue, s.priority, s.max_attempts, s.timeout_ms, s.added_at::text as added_at, s.seen_at::text as seen_at, s.removed_at::text as removed_at
from orchestratum.subscription s
order by s.name
