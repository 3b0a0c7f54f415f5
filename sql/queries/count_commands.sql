-- How many commands there are, by queue and status. $1: also those that have finished (reads all of history). $2: hook commands, too.
select a.queue, a.status, count(*)::text as count
from orchestratum.all_commands a
where ($1::boolean or a.finished_at is null)
  and ($2::boolean or a.hook is null)
group by a.queue, a.status
order by a.queue, a.status
