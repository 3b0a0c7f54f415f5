-- One page of the commands that a filter ($1) chooses, behind a place ($2), $3 at most, without those that came after a time ($4).
select
  id, name, version, hook, queue, priority, status, attempt, max_attempts, worker, parent_id, correlation_id, created_at, due_at, available_at,
  started_at, finished_at, error_code, error_message
from orchestratum.list($1::text::json, $2::text::json, $3::int, $4::text::timestamptz)
