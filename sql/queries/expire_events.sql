-- Empties at most one slot of events that is past its retention, and answers which.
select orchestratum.expire_events() as slot
