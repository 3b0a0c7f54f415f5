-- Every subscription, those that were removed among them.
select
  s.name, array_to_json(array(select p.pattern from orchestratum.subscription_pattern p where p.subscription = s.name order by p.pattern))::text
    as patterns,
  s.queue, s.priority, s.max_attempts, s.timeout_ms, (to_json(s.added_at at time zone 'UTC') #>> '{}') || 'Z' as added_at, (to_json(s.seen_at at time zone 'UTC') #>> '{}') || 'Z' as seen_at, (to_json(s.removed_at at time zone 'UTC') #>> '{}') || 'Z' as removed_at
from orchestratum.subscription s
order by s.name
