-- Moves finished commands ($1: ["…"]) back among the live ones. $2 {"input": …} or null, $3 who did it or null, $4 what they were found by or null.
select id, result, queue, available_at
from orchestratum.retry($1::text::json, $2::text::json, $3::text, $4::text::json)
