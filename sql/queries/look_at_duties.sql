-- How late each duty is, and how its last run went. `workers`: how many run; `silence_ms`: how long one of them may let a duty rest.
select
  d.name, d.worker, (extract(epoch from clock.at - d.next_run_at) * 1000)::float8 as late_ms, d.last_duration_ms, d.last_worker, d.last_error,
  (extract(epoch from clock.at - d.last_finished_at) * 1000)::float8 as finished_ms_ago,
  there.workers::float8 as workers, coalesce(there.silence_ms, 0)::float8 as silence_ms
from orchestratum.all_duties d
cross join (select clock_timestamp() as at) clock
cross join lateral (
  select count(*) as workers, max(w.lost_after_ms) as silence_ms
  from orchestratum.worker w
  where w.stopped_at is null and w.last_seen_at >= clock.at - w.lost_after_ms * interval '1 millisecond'
) there
order by d.name
