-- Makes a reader known, unless it is. $1 name, $2 the position that it begins after (null: the newest).
insert into orchestratum.reader (name, generation, building, position, available_at, created_at)
select $1::text, 1, false, coalesce($2::text::bigint, h.position), (select clock_timestamp()), (select clock_timestamp())
from orchestratum.event_head h
on conflict do nothing
