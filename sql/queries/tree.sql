-- The chain that a command ($1) belongs to, at most $2 of it.
select
  root, id, name, version, hook, queue, priority, status, attempt, max_attempts, worker, parent_id, correlation_id, created_at, due_at, available_at,
  started_at, finished_at, error_code, error_message
from orchestratum.tree($1::text::uuid, $2::int)
