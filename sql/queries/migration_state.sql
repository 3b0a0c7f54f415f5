-- What has been applied, and which functions are there. Fails with 42P01 (undefined_table) where nothing is.
select
  (
    select json_agg(json_build_object('version', m.version, 'name', m.name) order by m.version)::text
    from orchestratum.migration m
  ) as migrations,
  (select s.functions_hash from orchestratum.setting s) as functions_hash
