-- Publishes events ($1) to no stream; $2 says that some may have been published before.
select queue, available_at
from orchestratum.publish_batch($1::text::json, $2::boolean)
