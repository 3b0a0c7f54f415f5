-- How long ago some worker has said that it has a handler for each of these ($1: [{"queue", "name", "version"}]); null where none ever did.
-- `elsewhere`: only workers of other queues have one. `silence_ms`: how long a worker that lives, and serves the queue or may have one elsewhere,
-- may have said nothing, since one that is idle is heard of as rarely as it asks.
select
  asked.queue, asked.name, asked.version,
  (extract(epoch from (select clock_timestamp()) - h.seen_at) * 1000)::float8 as seen_ms_ago,
  apart.elsewhere,
  coalesce(
    (
      select max(2 * w.lost_after_ms)
      from orchestratum.worker w
      cross join (select clock_timestamp() as at) clock
      where w.stopped_at is null
        and w.last_seen_at >= clock.at - w.lost_after_ms * interval '1 millisecond'
        and (apart.elsewhere or asked.queue = any (w.queues))
    ),
    0
  )::float8 as silence_ms
from json_to_recordset($1::text::json) as asked (queue text, name text, version smallint)
cross join lateral (
  select orchestratum.handled_elsewhere(asked.queue, asked.name, asked.version) is not null as elsewhere
  offset 0
) apart
cross join lateral (
  select max(k.seen_at) as seen_at
  from orchestratum.handler k
  where k.name = asked.name and (k.version = asked.version or k.upgrades and k.version > asked.version)
) h
