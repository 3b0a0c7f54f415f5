-- Which of these names ($1: ["…"]) some worker has said it has a handler for, in which versions, and how long ago. `silence_ms`: how long a
-- worker that lives may have said nothing, since one that is idle is heard of as rarely as it asks.
select
  h.name, h.version, h.upgrades, (extract(epoch from (select clock_timestamp()) - h.seen_at) * 1000)::float8 as seen_ms_ago,
  coalesce(
    (
      select max(2 * w.lost_after_ms)
      from orchestratum.worker w
      cross join (select clock_timestamp() as at) clock
      where w.stopped_at is null and w.last_seen_at >= clock.at - w.lost_after_ms * interval '1 millisecond'
    ),
    0
  )::float8 as silence_ms
from json_array_elements_text($1::text::json) asked
cross join lateral (
  select k.name, k.version, k.upgrades, k.seen_at from orchestratum.handler k where k.name = asked
) h
