-- Roles for those who share a database with schema orchestratum. Run by hand, by a superuser, after the schema was migrated; it may be run again.
--
--   orchestratum_reader    reads everything: dashboards, and people
--   orchestratum_producer  pushes, publishes, and waits for the end
--   orchestratum_worker    executes: claims, records outcomes, does duties, reads and moves checkpoints, acts (cancels, retries, pauses)
--   orchestratum_owner     owns the schema: migrates, and decides on retention
--
-- None of them can log in: grant them to the roles that do. Whoever migrates does so as the owner, or what it makes is its own:
--
--   create role shop login in role orchestratum_producer;
--   create role deployer login in role orchestratum_owner;
--   alter role deployer set role orchestratum_owner;
--
-- What later migrations make is granted by default privileges; rights on functions are kept when functions are replaced.
-- Functions run with the rights of who calls them, so a producer may insert commands by plain SQL, and read what it must compare with. Only
-- what empties slots runs as the owner, and only workers may call it.
do $$
declare
  wanted text;
  owned record;
begin
  foreach wanted in array array['orchestratum_reader', 'orchestratum_producer', 'orchestratum_worker', 'orchestratum_owner'] loop
    if not exists (select from pg_roles r where r.rolname = wanted) then
      execute format('create role %I nologin', wanted);
    end if;
  end loop;

  alter schema orchestratum owner to orchestratum_owner;
  for owned in
    select c.oid::regclass as name
    from pg_class c
    where c.relnamespace = 'orchestratum'::regnamespace and c.relkind in ('r', 'p', 'v')
  loop
    execute format('alter table %s owner to orchestratum_owner', owned.name);
  end loop;
  for owned in
    select p.oid::regprocedure as name from pg_proc p where p.pronamespace = 'orchestratum'::regnamespace and p.prokind = 'f'
  loop
    execute format('alter function %s owner to orchestratum_owner', owned.name);
  end loop;
  execute format('grant create on database %I to orchestratum_owner', current_database());
end $$;

grant usage on schema orchestratum to orchestratum_reader, orchestratum_producer, orchestratum_worker;

grant select on all tables in schema orchestratum to orchestratum_reader, orchestratum_producer, orchestratum_worker;
alter default privileges for role orchestratum_owner in schema orchestratum
  grant select on tables to orchestratum_reader, orchestratum_producer, orchestratum_worker;

grant insert on orchestratum.command, orchestratum.event, orchestratum.event_inbox, orchestratum.stream to orchestratum_producer;
grant update (awaited) on orchestratum.command to orchestratum_producer;
-- A push that may be a repeat takes out again what has finished meanwhile.
grant delete on orchestratum.command to orchestratum_producer;
grant update (version) on orchestratum.stream to orchestratum_producer;

grant insert, update, delete on all tables in schema orchestratum to orchestratum_worker;
alter default privileges for role orchestratum_owner in schema orchestratum
  grant insert, update, delete on tables to orchestratum_worker;
-- How long things are kept, and what has been applied, is the owner's.
revoke insert, update, delete on orchestratum.setting, orchestratum.migration from orchestratum_worker;
-- Events never change, nor do their places in the log: expire_events empties slots of both, as the owner.
do $$
declare
  part regclass;
begin
  for part in
    select t.relid
    from (values ('orchestratum.event'::regclass), ('orchestratum.event_position')) as facts (name)
    cross join lateral pg_partition_tree(facts.name) t
  loop
    execute format('revoke update, delete on %s from orchestratum_worker', part);
  end loop;
end $$;

grant execute on function orchestratum.expire_history, orchestratum.expire_events to orchestratum_worker;
