-- Records outcomes of which some publish events: functions/finish_publishing.sql says how. $1 worker, $2 outcomes.
select id, fence, result, awaited, queue, available_at
from orchestratum.finish_publishing($1::text, $2::text::json)
where result <> 'accepted' or awaited
