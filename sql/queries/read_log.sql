-- Reads the log after a position ($1), at most $2 events whose topics match $3 (null: all), of at most $4 that are looked at.
select event_position, id, stream, version, topic, data, metadata, appended_at, more
from orchestratum.read_log($1::text::bigint, $2::int, $3::text, $4::int)
