-- Replication slots, and how much of the log each keeps from being removed.
select
  s.slot_name::text as name, s.slot_type as type, s.active,
  case
    when pg_is_in_recovery() then null
    else pg_wal_lsn_diff(pg_current_wal_lsn(), s.restart_lsn)::float8
  end as retained_bytes,
  age(coalesce(s.xmin, s.catalog_xmin))::float8 as transactions
from pg_replication_slots s
order by s.slot_name
limit 100
