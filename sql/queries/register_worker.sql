-- Says that a worker is there. $1: {"id", "instance", "runtime", "host", "queues", "concurrency", "running", "lost_after_ms", "handlers"}. Its start is
-- when it first said so; one that has been forgotten meanwhile, since its database was away for a day, is there again.
insert into orchestratum.worker as w (
  id, instance, runtime, host, queues, concurrency, running, lost_after_ms, started_at, last_seen_at, handlers
)
select
  r.id, r.instance, r.runtime, r.host, array(select v from json_array_elements_text(r.queues) v), r.concurrency, r.running, r.lost_after_ms,
  clock.at, clock.at, r.handlers
from json_to_record($1::text::json) as r (
  id text, instance text, runtime text, host text, queues json, concurrency int, running int, lost_after_ms int, handlers json
)
cross join (select clock_timestamp() as at) clock
on conflict (id) do update
set running = excluded.running,
    last_seen_at = excluded.last_seen_at
