-- Background work, times in ms since 1970: who is at it, when it was last done and how that went.
select
  d.name, d.worker, (extract(epoch from d.next_run_at) * 1000)::float8 as next_run_at_ms,
  (extract(epoch from d.last_started_at) * 1000)::float8 as last_started_at_ms, (extract(epoch from d.last_finished_at) * 1000)::float8 as last_finished_at_ms,
  d.last_duration_ms, d.last_worker, d.last_error
from orchestratum.all_duties d
order by d.name
