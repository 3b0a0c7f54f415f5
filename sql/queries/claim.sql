-- Leases due commands: functions/claim.sql says how. $1 worker, $2 lanes, $3 most rows, $4 most bytes of input, $5 lease in ms, $6 most losses.
select
  id, name, version, hook, purpose, fence, attempt, max_attempts, losses, timeout_ms, parent_id, unknown_since, input, metadata, abandoned_by,
  lane, available_at, more
from orchestratum.claim($1::text, $2::text::json, $3::int, $4::int, $5::int, $6::int)
