-- The same as cancel, noted as an act. $1 ids, $2 who did it or null, $3 what they were found by: {"filter": {…}}, or null.
select id, result, awaited, queue, available_at
from orchestratum.cancel($1::text::json, $2::text, $3::text::json)
