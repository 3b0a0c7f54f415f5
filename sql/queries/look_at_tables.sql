-- How the tables are kept: dead rows against what autovacuum waits for, its last run, and how old the oldest row is in transactions.
select
  c.relname::text as name,
  s.n_live_tup::float8 as live,
  s.n_dead_tup::float8 as dead,
  (extract(epoch from (select clock_timestamp()) - greatest(s.last_vacuum, s.last_autovacuum)) * 1000)::float8 as vacuumed_ms_ago,
  coalesce(own.enabled, true) as autovacuum,
  current_setting('autovacuum')::boolean and current_setting('track_counts')::boolean as server_autovacuum,
  (
    coalesce(own.threshold, current_setting('autovacuum_vacuum_threshold')::float8)
    + coalesce(own.scale_factor, current_setting('autovacuum_vacuum_scale_factor')::float8) * s.n_live_tup
  )::float8 as threshold,
  age(c.relfrozenxid)::float8 as transactions,
  current_setting('autovacuum_freeze_max_age')::float8 as max_transactions
from pg_class c
join pg_stat_all_tables s on s.relid = c.oid
cross join lateral (
  select
    bool_and(o.option_value::boolean) filter (where o.option_name = 'autovacuum_enabled') as enabled,
    max(o.option_value) filter (where o.option_name = 'autovacuum_vacuum_threshold')::float8 as threshold,
    max(o.option_value) filter (where o.option_name = 'autovacuum_vacuum_scale_factor')::float8 as scale_factor
  from pg_options_to_table(c.reloptions) o
) own
where c.relnamespace = 'orchestratum'::regnamespace and c.relkind = 'r'
order by c.relname
