-- Records outcomes: functions/finish.sql says how. $1 worker, $2 outcomes. Of those that are accepted, and nobody waits for, nothing is
-- answered: that is nearly all of them, and a row for each costs the client as much as the rest of its finish.
select id, fence, result, awaited, queue, available_at
from orchestratum.finish($1::text, $2::text::json)
where result <> 'accepted' or awaited
