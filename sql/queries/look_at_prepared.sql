-- Transactions of this database that were prepared and neither committed nor rolled back: they hold their locks, and keep dead rows.
select
  p.gid as name, p.owner::text as role, (extract(epoch from (select clock_timestamp()) - p.prepared) * 1000)::float8 as open_ms
from pg_prepared_xacts p
where p.database = current_database()
order by p.prepared
limit 10
