-- Was it this worker's lease that settled these? $1 worker, $2 leases.
select id, fence, result
from orchestratum.confirm($1::text, $2::text::json)
