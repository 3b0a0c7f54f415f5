-- Erases a person's data in finished commands ($1: ["…"]). $2 who did it or null.
select id, result
from orchestratum.erase($1::text::json, $2::text)
