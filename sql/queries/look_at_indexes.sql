-- How large the indexes of the hot table are, for how many rows.
select
  x.relname::text as name, pg_relation_size(x.oid)::float8 as bytes, greatest(s.n_live_tup, 0)::float8 as live
from pg_class c
join pg_index i on i.indrelid = c.oid
join pg_class x on x.oid = i.indexrelid
join pg_stat_all_tables s on s.relid = c.oid
where c.oid = 'orchestratum.command'::regclass
order by x.relname
