-- Publishes events to no stream, and pushes their deliveries. Answers what to hint at.
-- events: as append takes them. `repeat` says that some may have been published before (a reply was lost, or the caller chose the id): such
-- an event is left as it is, and delivers nothing again; its deliveries are hinted at, since that hint may have been lost, too. Of another
-- topic or other data it is a mistake of the caller's, and the whole call is refused (SQLSTATE OR002).
create function orchestratum.publish_batch(events json, repeat boolean default false, at timestamptz default clock_timestamp())
returns table (queue text, available_at text)
language plpgsql volatile
set enable_seqscan = off set enable_bitmapscan = off set jit = off set plan_cache_mode = force_generic_plan
as $f$
#variable_conflict use_column
declare
  into_slot smallint;
  subscribed boolean;
  fresh uuid[];
  twin uuid;
begin
  if not publish_batch.repeat then
    return query
    select a.queue, a.available_at
    from orchestratum.append(null, null, publish_batch.events, publish_batch.at) a
    where a.version is null;
    return;
  end if;

  perform orchestratum.require_read_committed();
  into_slot := orchestratum.event_slot(at);
  -- Before the events, and in a statement of its own: see append.
  subscribed := exists (select from orchestratum.subscription_pattern);
  with published as (
    -- Ordered, so that two batches with the same ids wait for each other in one direction only.
    insert into orchestratum.event (id, slot, topic, data, metadata, appended_at)
    select e.id, into_slot, e.topic, case when e.null_data then 'null'::json else e.data end, e.metadata, publish_batch.at
    from json_to_recordset(publish_batch.events) as e (id uuid, topic text, data json, null_data boolean, metadata json)
    left join lateral (select x.id from orchestratum.event x where x.id = e.id limit 1) known on true
    where known.id is null
    order by e.id
    on conflict (id, slot) do nothing
    returning event.id
  ),
  queued as (
    insert into orchestratum.event_inbox (event_id, slot)
    select p.id, into_slot from published p
  )
  select coalesce(array_agg(p.id), '{}') into fresh from published p;

  select e.id into twin
  from json_to_recordset(publish_batch.events) as e (id uuid, topic text, data json, null_data boolean)
  cross join lateral (select case when e.null_data then 'null'::json else e.data end as data) given
  cross join lateral (select x.stream, x.topic, x.data from orchestratum.event x where x.id = e.id limit 1) earlier
  where earlier.stream is not null
    or earlier.topic <> e.topic
    or earlier.data::text is distinct from given.data::text and earlier.data::jsonb is distinct from given.data::jsonb
  limit 1;
  if found then
    raise exception 'Cannot publish event %: its id was published before with another topic or data, or appended to a stream', twin
      using errcode = 'OR002', detail = twin::text;
  end if;

  if cardinality(fresh) < json_array_length(publish_batch.events) then
    return query select h.queue, h.available_at from orchestratum.event_hint(publish_batch.events, publish_batch.at) h;
  else
    return query select h.queue, h.available_at from orchestratum.reader_hint(publish_batch.at) h;
  end if;
  if subscribed and cardinality(fresh) > 0 then
    return query
    select d.queue, d.available_at
    from orchestratum.deliver((
      select json_agg(e.value order by e.place)
      from (
        select distinct on (v.value ->> 'id') v.value, v.place
        from json_array_elements(publish_batch.events) with ordinality as v (value, place)
        where (v.value ->> 'id')::uuid = any (fresh)
        order by v.value ->> 'id', v.place
      ) e
    ), null, null, publish_batch.at) d;
  end if;
end $f$;
