-- What a worker must know of the database before it starts: the isolation that its statements will run at, and whether the schema is there.
select
  current_setting('default_transaction_isolation') as isolation,
  coalesce(to_regclass('orchestratum.all_commands') is not null, false) as migrated,
  current_setting('server_version_num')::int as server_version
