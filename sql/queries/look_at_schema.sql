-- What is installed: functions with their texts and settings, tables, views and indexes. One row of JSON texts.
select
  (
    select json_agg(json_build_object('name', p.proname, 'source', p.prosrc, 'settings', to_json(p.proconfig)) order by p.proname)::text
    from pg_proc p
    where p.pronamespace = 'orchestratum'::regnamespace and p.prokind = 'f'
  ) as functions,
  (
    select json_agg(json_build_object('name', c.relname, 'valid', coalesce(i.indisvalid, true)) order by c.relname)::text
    from pg_class c
    left join pg_index i on i.indexrelid = c.oid
    where c.relnamespace = 'orchestratum'::regnamespace and c.relkind in ('r', 'p', 'v', 'i', 'I')
  ) as relations
