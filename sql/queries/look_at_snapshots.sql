-- Who keeps dead rows from being removed: the ten transactions that have been open for longest, replicas that hold a snapshot among them. What
-- a role may not see of other sessions is null, and `sees_all` says so: one row at least.
select
  pg_has_role(current_user, 'pg_read_all_stats', 'usage') as sees_all,
  held.pid, held.role, held.application, held.state, held.open_ms, held.transactions
from (select) one
left join lateral (
  select
    a.pid, a.usename::text as role, nullif(a.application_name, '') as application, a.state,
    (extract(epoch from (select clock_timestamp()) - coalesce(a.xact_start, a.backend_start)) * 1000)::float8 as open_ms,
    age(coalesce(a.backend_xmin, a.backend_xid))::float8 as transactions
  from pg_stat_activity a
  where (a.backend_xmin is not null or a.backend_xid is not null)
    and a.pid <> pg_backend_pid()
    and (a.datname = current_database() or a.datname is null)
    and a.backend_type <> 'autovacuum worker'
  order by 5 desc
  limit 10
) held on true
