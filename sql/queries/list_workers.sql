-- The fleet, times in ms since 1970: those that run first, then those that are lost, then those that have stopped, in each the newest first.
select
  w.id, w.instance, w.status, w.runtime, w.host, to_json(w.queues)::text as queues, w.concurrency, w.running::float8 as running,
  w.finished::float8 as finished, w.failed::float8 as failed, w.cancelled::float8 as cancelled, w.mean_execution_ms,
  (extract(epoch from w.started_at) * 1000)::float8 as started_at_ms, (extract(epoch from w.last_seen_at) * 1000)::float8 as last_seen_at_ms, (extract(epoch from w.stopped_at) * 1000)::float8 as stopped_at_ms
from orchestratum.all_workers w
order by array_position(array['running', 'lost', 'stopped'], w.status), w.started_at desc, w.id
limit 10000
