-- The newest of the events that have no place in the log yet.
select coalesce(max(i.seq), 0)::text as seq from orchestratum.event_inbox i
