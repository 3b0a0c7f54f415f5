-- Gives the new functions the rights that before_functions.sql found, by name, and records which functions these are.
--
-- What a function's own file takes from PUBLIC stays taken, and so does what an operator took: nothing is ever granted to
-- PUBLIC here. Functions belong to the schema's owner, as far as the one who migrates may decide it: a superuser who
-- upgrades once must not lend its rights to a function that runs with its owner's.
do $$
declare
  created record;
  rights json;
  granted record;
begin
  for created in
    select p.proname as name, p.oid::regprocedure as signature, p.proowner as owner, n.nspowner as wanted_owner
    from pg_proc p
    join pg_namespace n on n.oid = p.pronamespace
    where p.pronamespace = 'orchestratum'::regnamespace
      and p.prokind = 'f'
  loop
    if created.owner <> created.wanted_owner and pg_has_role(created.wanted_owner, 'member') then
      execute format('alter function %s owner to %s', created.signature, created.wanted_owner::regrole);
    end if;

    rights := current_setting('orchestratum_migration.rights')::json -> created.name::text;
    if not (rights ->> 'public')::boolean then
      execute format('revoke execute on function %s from public', created.signature);
    end if;
    for granted in
      select g.role, g.grantable from json_to_recordset(rights -> 'grants') as g (role text, grantable boolean)
    loop
      execute format(
        'grant execute on function %s to %I%s',
        created.signature, granted.role, case when granted.grantable then ' with grant option' else '' end
      );
    end loop;
  end loop;

  update orchestratum.setting set functions_hash = :'functions_hash_after';
end $$;
