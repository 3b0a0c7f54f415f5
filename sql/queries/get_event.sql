-- One event ($1).
select stream, version, topic, data, metadata, appended_at
from orchestratum.get_event($1::text::uuid)
