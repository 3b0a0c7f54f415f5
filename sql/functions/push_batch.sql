-- Puts commands into the queue. Answers those that were new, with what a hint must say: the queue, and from when to look.
-- `repeat` says that some of them may have been pushed before (the library tries again after a lost reply, or the caller chose the id).
-- What has finished meanwhile is taken out again after the insert: by then the first push, if there was one, has been committed, claimed
-- and finished where this can see it, however long the insert had to wait. Looking before the insert left a hole as wide as that wait.
-- An id that was pushed with another name or input is a mistake of the caller's, and the whole call is refused (SQLSTATE OR001). Not where an
-- operator has corrected the input since, as table act knows: what the caller pushes again is then no longer there to be compared with.
create function orchestratum.push_batch(commands json, repeat boolean default false, at timestamptz default clock_timestamp())
returns table (id text, queue text, available_at text)
language plpgsql volatile
set enable_seqscan = off set enable_bitmapscan = off set jit = off set plan_cache_mode = force_generic_plan
set datestyle = 'ISO' set timezone = 'UTC'
as $f$
#variable_conflict use_column
declare
  fresh uuid[];
  twin uuid;
begin
  if not push_batch.repeat then
    return query
    insert into orchestratum.command (
      id, name, version, hook, queue, priority, due_at, available_at, max_attempts, timeout_ms, awaited, parent_id, input, metadata, created_at
    )
    select
      r.id, r.name, r.version, r.hook, r.queue, r.priority, r.due_at, r.available_at, r.max_attempts, r.timeout_ms, r.awaited, r.parent_id,
      r.input, r.metadata, r.created_at
    from orchestratum.command_rows(push_batch.commands, push_batch.at) r
    on conflict (id) do nothing
    returning command.id::text, command.queue, command.available_at::text;
  else
    perform orchestratum.require_read_committed();
    with pushed as (
      -- Ordered, so that two batches with the same ids wait for each other in one direction only.
      insert into orchestratum.command (
        id, name, version, hook, queue, priority, due_at, available_at, max_attempts, timeout_ms, awaited, parent_id, input, metadata, created_at
      )
      select
        r.id, r.name, r.version, r.hook, r.queue, r.priority, r.due_at, r.available_at, r.max_attempts, r.timeout_ms, r.awaited, r.parent_id,
        r.input, r.metadata, r.created_at
      from orchestratum.command_rows(push_batch.commands, push_batch.at) r
      order by r.id
      on conflict (id) do nothing
      returning command.id
    )
    select array_agg(p.id) into fresh from pushed p;

    select r.id into twin
    from orchestratum.command_rows(push_batch.commands, push_batch.at) r
    left join lateral (select c.name, c.input from orchestratum.command c where c.id = r.id limit 1) live on true
    left join lateral (select h.name, h.input, h.erased_at is not null as erased from orchestratum.history h where h.id = r.id limit 1) past on true
    cross join lateral (values (live.name, live.input), (past.name, case when past.erased then r.input else past.input end)) earlier (name, input)
    where earlier.name is not null
      and (
        earlier.name <> r.name
        or earlier.input::text is distinct from r.input::text
        and earlier.input::jsonb is distinct from r.input::jsonb
        -- Asked last, and of what differs only.
        and not exists (
          select
          from orchestratum.act a
          where a.target -> 'ids' ->> 0 = r.id::text
            and a.target ->> 'corrected' is not null
        )
      )
    limit 1;
    if found then
      raise exception 'Cannot push command %: its id was pushed before with another name or input', twin
        using errcode = 'OR001', detail = twin::text;
    end if;

    delete from orchestratum.command c
    where c.id = any (array(
      select f.id
      from unnest(fresh) f (id)
      cross join lateral (select from orchestratum.history h where h.id = f.id limit 1) past
    ));
    return query
    select c.id::text, c.queue, c.available_at::text from orchestratum.command c where c.id = any (fresh);
  end if;
end $f$;
