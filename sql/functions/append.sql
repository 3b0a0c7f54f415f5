-- Appends to one stream if it is at the version expected (0 for a new stream, null for any), and pushes the deliveries. Answers the new
-- version; no such row is the conflict, and the caller's transaction stays usable. Rows without a version tell what to hint at.
-- events: [{"id", "topic", "data" (or "null_data"), "metadata", "parent_id"}], at least one; parent_id: the command that publishes.
-- The lock on the stream's row is also what makes positions follow the order of the stream. A transaction that appends to several
-- streams takes them in the order of their names. Without a stream (null) there is no lock, no conflict, and the version is 0.
-- An append that may have been made before goes through append_again().
-- The stream is moved by itself: within the statement that writes the events both ways of moving it would be made ready at each append.
-- Whether there are subscriptions is asked in a statement of its own, before: whoever adds one waits for the transactions that have locked
-- that table, and so for every one whose events were matched without it.
create function orchestratum.append(stream text, expected_version int, events json, at timestamptz default clock_timestamp())
returns table (version int, queue text, available_at text)
language plpgsql volatile
set enable_seqscan = off set enable_bitmapscan = off set jit = off set plan_cache_mode = force_generic_plan
as $f$
#variable_conflict use_column
declare
  size int := json_array_length(events);
  into_slot smallint;
  subscribed boolean;
  followed boolean;
  reached int;  -- null: without a stream
begin
  select
    case when s.keep_events is null then 0 else orchestratum.event_slot(append.at) end,
    exists (select from orchestratum.subscription_pattern),
    exists (select from orchestratum.reader)
  into into_slot, subscribed, followed
  from orchestratum.setting s;

  if append.stream is not null then
    if append.expected_version <> 0 then
      update orchestratum.stream s
      set version = s.version + size
      where s.name = append.stream and s.version = append.expected_version
      returning s.version into reached;
    else
      insert into orchestratum.stream as s (name, version)
      values (append.stream, size)
      on conflict (name) do update set version = s.version + size where s.version = coalesce(append.expected_version, s.version)
      returning s.version into reached;
    end if;
    if reached is null then
      return;
    end if;
  end if;

  with appended as (
    insert into orchestratum.event (id, slot, stream, version, topic, data, metadata, appended_at)
    select
      e.id, into_slot, append.stream, reached - size + e.place, e.topic, case when e.null_data then 'null'::json else e.data end,
      e.metadata, append.at
    from rows from (
      json_to_recordset(append.events) as (id uuid, topic text, data json, null_data boolean, metadata json)
    ) with ordinality as e (id, topic, data, null_data, metadata, place)
    returning id, version
  )
  insert into orchestratum.event_inbox (event_id, slot)
  select a.id, into_slot from appended a order by a.version;
  version := coalesce(reached, 0);
  return next;
  if followed then
    return query select null::int, h.queue, h.available_at from orchestratum.reader_hint(append.at) h;
  end if;
  if subscribed then
    return query
    select null::int, d.queue, d.available_at from orchestratum.deliver(append.events, append.stream, reached, append.at) d;
  end if;
end $f$;
