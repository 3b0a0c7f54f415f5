-- How many live commands there are, by queue, name, status and, where it runs, worker, and since when the oldest of them has been wanted;
-- `hooks`: hook commands, too. It reads the table as a whole, once, and sorts nothing: name, hook and lease are in no index, and by an index a
-- million rows are a million reads of pages. The settings keep it so, whatever the statistics say of a table that was empty a moment ago.
create function orchestratum.count_live(hooks boolean, at timestamptz default clock_timestamp())
returns table (queue text, name text, status text, worker text, count bigint, oldest_due_at timestamptz)
language sql stable
set enable_indexscan = off set enable_indexonlyscan = off set enable_bitmapscan = off set enable_sort = off set jit = off
set datestyle = 'ISO' set timezone = 'UTC'
as $f$
  select
    l.queue, l.name, case when l.is_due then 'pending' when l.worker is null then 'scheduled' else 'running' end, l.worker, l.count,
    l.oldest_due_at
  from (
    select
      c.queue, c.name, c.available_at <= count_live.at as is_due, case when c.available_at > count_live.at then c.leased_by end as worker,
      count(*) as count, min(c.due_at) as oldest_due_at
    from orchestratum.command c
    where count_live.hooks or c.hook is null
    group by 1, 2, 3, 4
  ) l
$f$;
