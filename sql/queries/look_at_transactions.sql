-- What became of these transactions ($1: ["…"]). Ids from the future (after a failover) would raise an error: they count as aborted.
select
  v as transaction_id,
  case
    when v::xid8 < (select pg_snapshot_xmax(pg_current_snapshot())) then coalesce(pg_xact_status(v::xid8), 'committed')
    else 'aborted'
  end as status
from json_array_elements_text($1::text::json) v
