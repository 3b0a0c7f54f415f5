-- Takes out workers that have not been heard of for a day, and that could not be expected to be.
delete from orchestratum.worker w
using (select clock_timestamp() as at) clock
where w.last_seen_at < clock.at - greatest(interval '1 day', 2 * w.lost_after_ms * interval '1 millisecond')
