-- The deliveries of an event ($1), and whether it is there.
select d.subscription, d.id, d.status, d.attempt, d.max_attempts, d.finished_at, d.trail
from orchestratum.event_deliveries($1::text::uuid) d
