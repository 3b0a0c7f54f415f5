-- The names that are paused.
select n.name, (to_json(n.paused_at at time zone 'UTC') #>> '{}') || 'Z' as paused_at, n.paused_by
from orchestratum.paused_name n
order by n.name
