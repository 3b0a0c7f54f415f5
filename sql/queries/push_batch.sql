-- Puts commands ($1) into the queue; $2 says that some may have been pushed before.
select id, queue, available_at
from orchestratum.push_batch($1::text::json, $2::boolean)
