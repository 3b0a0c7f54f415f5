-- One event by its id. A function for the same reason as get().
create function orchestratum.get_event(id uuid)
returns table (stream text, version int, topic text, data text, metadata text, appended_at text)
language sql stable
set enable_seqscan = off set enable_bitmapscan = off set jit = off set datestyle = 'ISO' set timezone = 'UTC'
as $f$
  select e.stream, e.version, e.topic, e.data::text, e.metadata::text, e.appended_at::text
  from orchestratum.event e
  where e.id = get_event.id
  limit 1
$f$;
