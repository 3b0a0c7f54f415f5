-- When something is due next in these queues ($1), after the clock of the last claim ($2).
select orchestratum.next_due($1::text::json, $2::text::timestamptz) as available_at
