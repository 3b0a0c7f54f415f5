-- Which of these names ($1: ["…"]) some worker has said it has a handler for, in which versions, and how long ago.
select h.name, h.version, h.upgrades, (extract(epoch from (select clock_timestamp()) - h.seen_at) * 1000)::float8 as seen_ms_ago
from json_array_elements_text($1::text::json) asked
cross join lateral (
  select k.name, k.version, k.upgrades, k.seen_at from orchestratum.handler k where k.name = asked
) h
