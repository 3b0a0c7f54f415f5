-- How far commands ($1: ["…"]) are.
select id, status, progress, finished_at, at
from orchestratum.progress($1::text::json)
