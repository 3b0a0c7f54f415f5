-- Commands by id ($1: ["…"]).
select
  id, name, version, hook, queue, priority, status, input, output, progress, metadata, trail, fence, attempt, max_attempts, losses, timeout_ms,
  worker, parent_id, created_at, due_at, available_at, started_at, finished_at, cancel_requested_at, unknown_since
from orchestratum.get($1::text::json)
