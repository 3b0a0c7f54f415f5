-- How long one slot of history is in use, in ms: of the ring that turns faster.
select (extract(epoch from least(s.keep_succeeded, s.keep_other)) * 1000 / 14)::float8 as turn_ms
from orchestratum.setting s
