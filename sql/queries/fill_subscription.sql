-- Delivers to a subscription ($1) what is in the log after a position ($2) up to another ($3), $4 events at most.
select reached, queue, available_at
from orchestratum.fill_subscription($1::text, $2::text::bigint, $3::text::bigint, $4::int)
