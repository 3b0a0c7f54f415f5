-- Append, where these very events may have been appended before (the reply was lost): then it answers the version that they left the
-- stream at, and appends nothing. It looks first, and once more if the append met a conflict or the same ids: the first append may have
-- been open until then. Rows as append answers them.
-- Only the same events, all of them and in their order, are a repeat: where an id stands for anything else, or twice among these, the call
-- is refused (SQLSTATE OR002), or it would answer success for an event that it never wrote.
create function orchestratum.append_again(stream text, expected_version int, events json, at timestamptz default clock_timestamp())
returns table (version int, queue text, available_at text)
language plpgsql volatile
set enable_seqscan = off set enable_bitmapscan = off set jit = off set plan_cache_mode = force_generic_plan
as $f$
#variable_conflict use_column
declare
  size int := json_array_length(events);
  known int;
  reached int;
  stray uuid;
begin
  perform orchestratum.require_read_committed();
  for turn in 1..2 loop
    with given as materialized (
      select g.id, g.place, x.id is not null as is_known, x.version, x.is_same, row_number() over (partition by g.id order by g.place) > 1 as is_twin
      from rows from (
        json_to_recordset(append_again.events) as (id uuid, topic text, data json, null_data boolean)
      ) with ordinality as g (id, topic, data, null_data, place)
      cross join lateral (select case when g.null_data then 'null'::json else g.data end as data) v
      left join lateral (
        select
          e.id, e.version,
          e.stream is not distinct from append_again.stream
            and e.topic = g.topic
            and (e.data::text is not distinct from v.data::text or e.data::jsonb is not distinct from v.data::jsonb) as is_same
        from orchestratum.event e
        where e.id = g.id
        limit 1
      ) x on true
    ),
    found as (
      select count(*) filter (where g.is_known) as known, max(g.version) as last from given g
    )
    select
      found.known, coalesce(found.last, 0),
      (
        select g.id
        from given g
        where g.is_known and (
            found.known < size
            or not g.is_same
            or append_again.stream is not null and g.version <> found.last - size + g.place
          )
          or g.is_twin
        order by g.place
        limit 1
      )
    into known, reached, stray
    from found;
    if stray is not null then
      raise exception 'Cannot append event %: its id stands for another event, or for one that was appended with others', stray
        using errcode = 'OR002', detail = stray::text;
    end if;
    if known > 0 then
      return query select reached, null::text, null::text;
      -- The hint may have been lost with the reply.
      return query select null::int, h.queue, h.available_at from orchestratum.event_hint(append_again.events, append_again.at) h;
      return;
    end if;
    begin
      return query
      select a.version, a.queue, a.available_at
      from orchestratum.append(append_again.stream, append_again.expected_version, append_again.events, append_again.at) a;
      if found then
        return;
      end if;
    exception when unique_violation then
      if turn = 2 then raise; end if;
    end;
  end loop;
end $f$;
