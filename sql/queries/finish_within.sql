-- Records an outcome within the handler's own transaction: functions/finish_within.sql says how. $1 worker, $2 outcomes.
select id, fence, result, awaited, queue, available_at, transaction_id
from orchestratum.finish_within($1::text, $2::text::json)
