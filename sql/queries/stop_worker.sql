-- Says that a worker ($1) has stopped.
update orchestratum.worker w
set running = 0,
    last_seen_at = clock.at,
    stopped_at = clock.at
from (select clock_timestamp() as at) clock
where w.id = $1::text
