-- Which queues, and which names of commands, are paused. There are few, and asking for all costs no more than asking for some.
select p.queue, null as name
from orchestratum.paused_queue p
union all
select null, n.name
from orchestratum.paused_name n
