-- What became of these transactions ($1: ["…"]). An id that is not below the snapshot's xmax is younger than anything that has ended, so it is
-- in progress; one from the future, as after a failover, looks the same, and pg_xact_status would raise an error for it.
select
  v as transaction_id,
  case
    when v::xid8 < (select pg_snapshot_xmax(pg_current_snapshot())) then coalesce(pg_xact_status(v::xid8), 'committed')
    else 'in progress'
  end as status
from json_array_elements_text($1::text::json) v
