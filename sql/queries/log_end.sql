-- The end of the log, and whether something up to $1 has no place in it yet.
select
  h.position::text as position,
  exists (select from orchestratum.event_inbox i where i.seq <= $1::text::bigint) as left
from orchestratum.event_head h
