-- How many commands there are, by queue and status, hook commands left out. $1: also those that have finished (reads all of history).
select a.queue, a.status, count(*)::text as count
from orchestratum.all_commands a
where a.hook is null
  and ($1::boolean or a.finished_at is null)
group by a.queue, a.status
order by a.queue, a.status
