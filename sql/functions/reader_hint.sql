-- What an append hints at beside its deliveries: readers, where there are any. In a queue's place stands what no worker serves.
create function orchestratum.reader_hint(at timestamptz)
returns table (queue text, available_at text)
language sql stable
set enable_seqscan = off set datestyle = 'ISO' set timezone = 'UTC'
as $f$
  select '*readers*', reader_hint.at::text where exists (select from orchestratum.reader)
$f$;
