-- Places committed events in the log, at most $1, and answers how many.
select placed, head, busy from orchestratum.sequence_events($1::int)
