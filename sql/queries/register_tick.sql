-- Says that a tick was there. $1: {"id", "instance", "runtime", "host", "queues", "concurrency", "handlers"}. Ticks of one instance that serve the same
-- queues have one row, and what one of them said within half a minute is not said again. The next may take twice as long as the last one took, and
-- half a minute more, before they count as lost; a minute and a half at least and two days at most, and a quarter of an hour after the first.
-- The id names all that they serve: where it is too long for a key, a hash of the whole stands for its end.
insert into orchestratum.worker as w (
  id, instance, runtime, host, queues, concurrency, running, lost_after_ms, started_at, last_seen_at, handlers
)
select
  case
    when char_length(r.id) <= 200 then r.id
    else left(r.id, 183) || ' ' || left(encode(sha256(convert_to(r.id, 'UTF8')), 'hex'), 16)
  end,
  r.instance, r.runtime, r.host, array(select v from json_array_elements_text(r.queues) v), r.concurrency, 0, 900000,
  clock.at, clock.at, r.handlers
from json_to_record($1::text::json) as r (
  id text, instance text, runtime text, host text, queues json, concurrency int, handlers json
)
cross join (select clock_timestamp() as at) clock
on conflict (id) do update
set runtime = excluded.runtime,
    host = excluded.host,
    concurrency = excluded.concurrency,
    lost_after_ms = least(
      greatest(2 * extract(epoch from excluded.last_seen_at - w.last_seen_at) * 1000 + 30000, 90000),
      172800000
    )::int,
    last_seen_at = excluded.last_seen_at,
    handlers = excluded.handlers
where w.last_seen_at < excluded.last_seen_at - interval '30 seconds'
