-- How commands ($1: ["…"]) ended, or a mark that somebody waits for them.
select id, result, name, version, status, output, trail, finished_at
from orchestratum.wait_for($1::text::json)
