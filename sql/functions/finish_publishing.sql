-- finish(), for a batch in which outcomes publish events: those of the accepted ones commit with them, to no stream, with their deliveries.
-- An outcome's "events" are as append takes them; only a success has any. Rows as finish answers them.
-- A function of its own, so that a finish without events is what it was: no statement more, and no wider record.
-- An event's id is the library's own, as a follow-up's is: a twin in somebody's open transaction would make the batch wait for it.
create function orchestratum.finish_publishing(worker text, outcomes json, at timestamptz default clock_timestamp())
returns table (id text, fence int, result text, awaited boolean, queue text, available_at text)
language plpgsql volatile
set enable_seqscan = off set enable_bitmapscan = off set jit = off set lock_timeout = '200ms'
as $f$
#variable_conflict use_column
declare
  accepted text[] := '{}';
  published json;
begin
  for id, fence, result, awaited, queue, available_at in
    select f.id, f.fence, f.result, f.awaited, f.queue, f.available_at
    from orchestratum.finish(finish_publishing.worker, finish_publishing.outcomes, finish_publishing.at) f
  loop
    if result = 'accepted' then
      accepted := accepted || (id || ' ' || fence);
    end if;
    return next;
  end loop;

  select json_agg(e.value) into published
  from (
    select distinct on (r.id, r.fence) r.id, r.fence, r.events
    from json_to_recordset(finish_publishing.outcomes) as r (id uuid, fence int, verdict text, events json)
    where r.events is not null and r.verdict = 'succeeded'
  ) r
  cross join lateral json_array_elements(r.events) e
  where r.id || ' ' || r.fence = any (accepted);
  if published is not null then
    return query
    select null::text, null::int, 'due', null::boolean, a.queue, a.available_at
    from orchestratum.append(null, null, published, finish_publishing.at) a
    where a.version is null;
  end if;
end $f$;
