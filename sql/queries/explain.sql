-- What decides on whether a command ($1) runs.
select
  name, version, queue, status, worker, attempt, max_attempts, losses, at_ms, available_ms, started_ms, finished_ms,
  cancel_requested_ms, unknown_since_ms, fence, last_entry, queue_paused_ms, queue_paused_by, name_paused_ms, name_paused_by, serving,
  last_served_by, last_served_ms, handler_known, handler_seen_ms, handler_versions, worker_status, worker_seen_ms, ahead,
  handler_queues
from orchestratum.explain($1::text::uuid)
