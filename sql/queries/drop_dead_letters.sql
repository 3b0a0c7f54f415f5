-- Takes dead letters ($1: ["…"]) out of history. $2 who did it or null, $3 what they were found by or null.
select id, result, null as queue, null as available_at
from orchestratum.drop_dead_letters($1::text::json, $2::text, $3::text::json)
