-- The handlers that workers have said they have, with the defaults of their contracts; of each name the newest version first. For those who
-- push without a contract at hand.
select h.name, h.version, h.queue, h.priority, h.max_attempts, h.timeout_ms
from orchestratum.handler h
order by h.name, h.version desc
limit 10000
