-- Records outcomes: functions/finish.sql says how. $1 worker, $2 outcomes.
select id, fence, result, awaited, queue, available_at
from orchestratum.finish($1::text, $2::text::json)
