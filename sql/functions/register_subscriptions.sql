-- Says which subscriptions there are. subscriptions: [{"name", "patterns": […], "queue", "priority", "max_attempts", "timeout_ms"}].
-- mode: 'see' (a worker, once a minute: adds what is not there, and changes nothing), 'declare' (a worker, when it starts: the newest start
-- decides what a subscription is) or 'add' (somebody, by hand). What was removed stays so but for the last: a worker of an older release must
-- not bring it back.
-- Answers how many were written. In one order, so that workers that start together do not lock each other out; what was said within half a minute is not said again.
create function orchestratum.register_subscriptions(subscriptions json, mode text, at timestamptz default clock_timestamp())
returns int
language plpgsql volatile
set enable_seqscan = off set enable_bitmapscan = off set jit = off
as $f$
#variable_conflict use_column
declare
  written text[];
begin
  with asked as (
    select s.* from json_to_recordset(register_subscriptions.subscriptions) as s (
      name text, queue text, priority smallint, max_attempts smallint, timeout_ms int
    )
  ),
  upserted as (
    insert into orchestratum.subscription as s (name, queue, priority, max_attempts, timeout_ms, added_at, seen_at)
    select a.name, a.queue, a.priority, a.max_attempts, a.timeout_ms, register_subscriptions.at, register_subscriptions.at
    from asked a
    order by a.name
    on conflict (name) do update
    set queue = excluded.queue,
        priority = excluded.priority,
        max_attempts = excluded.max_attempts,
        timeout_ms = excluded.timeout_ms,
        added_at = case when s.removed_at is null then s.added_at else excluded.added_at end,
        seen_at = excluded.seen_at,
        removed_at = null
    where register_subscriptions.mode = 'add' or register_subscriptions.mode = 'declare' and s.removed_at is null
    returning s.name
  )
  select coalesce(array_agg(u.name), '{}') into written from upserted u;

  delete from orchestratum.subscription_pattern p
  where p.subscription = any (written)
    and not exists (
      select
      from json_to_recordset(register_subscriptions.subscriptions) as s (name text, patterns json)
      cross join lateral json_array_elements_text(s.patterns) v
      where s.name = p.subscription and v = p.pattern
    );
  insert into orchestratum.subscription_pattern (pattern, subscription)
  select v, s.name
  from json_to_recordset(register_subscriptions.subscriptions) as s (name text, patterns json)
  cross join lateral json_array_elements_text(s.patterns) v
  where s.name = any (written)
  order by s.name, v
  on conflict (pattern, subscription) do nothing;

  update orchestratum.subscription s
  set seen_at = register_subscriptions.at
  from json_to_recordset(register_subscriptions.subscriptions) as a (name text)
  where s.name = a.name
    and a.name <> all (written)
    and s.seen_at < register_subscriptions.at - interval '30 seconds';
  return cardinality(written);
end $f$;
