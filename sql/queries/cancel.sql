-- Cancels commands by id ($1: ["…"]).
select id, result, awaited, queue, available_at
from orchestratum.cancel($1::text::json)
