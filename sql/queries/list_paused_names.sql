-- The names that are paused.
select n.name, n.paused_at::text as paused_at, n.paused_by
from orchestratum.paused_name n
order by n.name
