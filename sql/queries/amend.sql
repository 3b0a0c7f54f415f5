-- Changes waiting commands ($1: ["…"]). $2 what: functions/amend.sql lists it, $3 the kind of act, $4 who did it or null.
select id, result, queue, available_at
from orchestratum.amend($1::text::json, $2::text::json, $3::text, $4::text)
