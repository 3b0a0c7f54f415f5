-- Empties at most one slot of history that is past its retention, and answers which.
select orchestratum.expire_history() as slot
