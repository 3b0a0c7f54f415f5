-- Which queues are paused. There are few, and asking for all costs no more than asking for some.
select p.queue
from orchestratum.paused_queue p
