-- Sends hints. Alone, never in a statement or transaction that writes: it holds a lock of the whole database through its commit.
-- $1 channel, $2 payloads.
select count(pg_notify($1::text, v))::int as count
from json_array_elements_text($2::text::json) v
