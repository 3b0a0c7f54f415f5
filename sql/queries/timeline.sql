-- A command ($1), the one row with a fence, and at most $2 of what it caused.
select
  id, name, version, hook, queue, priority, status, attempt, max_attempts, worker, parent_id, correlation_id, created_at, due_at, available_at,
  started_at, finished_at, error_code, error_message, fence, trail
from orchestratum.timeline($1::text::uuid, $2::int)
