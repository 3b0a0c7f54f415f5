-- Places committed events in the log, at most $1, and answers how many.
select orchestratum.sequence_events($1::int) as placed
