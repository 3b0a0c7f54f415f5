-- Extends leases and carries progress. $1 worker, $2 leases, $3 lease in ms.
select id, fence, result, cancel_requested
from orchestratum.heartbeat($1::text, $2::text::json, $3::int)
