-- How long one slot of events is in use, in ms; null where they are kept for ever.
select (extract(epoch from s.keep_events) * 1000 / 14)::float8 as turn_ms
from orchestratum.setting s
