-- Drops the schema's functions, and remembers who might call them for after_functions.sql.
--
-- The schema is ours alone, so all of its functions are ours, also those that this release has no more. They go by oid:
-- `create or replace` refuses a new returned column, and a new argument would leave an overload beside the old one.
-- Nothing is dropped in cascade. Where something of the user's depends on a function, a column default or a function
-- with a body that is no string, the server names it, and the whole script is undone.
-- What is remembered travels in a setting of this transaction: not everybody may create a temporary table.
do $$
declare
  dropped record;
begin
  if (select s.functions_hash from orchestratum.setting s) is distinct from :'functions_hash_before' then
    raise exception 'Cannot replace functions: another process did so meanwhile' using errcode = 'object_in_use';
  end if;

  perform set_config('orchestratum_migration.rights', (
    select coalesce(json_object_agg(held.name, held.rights), '{}')::text
    from (
      select
        p.proname as name,
        json_build_object(
          'public', bool_and(p.proacl is null or exists (select from aclexplode(p.proacl) a where a.grantee = 0)),
          'grants', (
            select coalesce(json_agg(distinct jsonb_build_object('role', r.rolname, 'grantable', a.is_grantable)), '[]')
            from pg_proc q
            cross join lateral aclexplode(q.proacl) a
            join pg_roles r on r.oid = a.grantee
            where q.pronamespace = p.pronamespace
              and q.proname = p.proname
              and a.grantee <> q.proowner
          )
        ) as rights
      from pg_proc p
      where p.pronamespace = 'orchestratum'::regnamespace
        and p.prokind = 'f'
      group by p.pronamespace, p.proname
    ) held
  ), true);

  for dropped in
    select p.oid::regprocedure as signature
    from pg_proc p
    where p.pronamespace = 'orchestratum'::regnamespace
      and p.prokind = 'f'
  loop
    execute format('drop function %s', dropped.signature);
  end loop;
end $$;

-- The functions name each other, and are created in the order of the alphabet.
set local check_function_bodies = off;
