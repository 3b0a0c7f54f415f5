-- What to hint at where events may have been delivered before by a call whose reply was lost, and so was its hint: every queue that has
-- deliveries of their topics, and readers. Who is woken in vain looks, and finds nothing.
create function orchestratum.event_hint(events json, at timestamptz)
returns table (queue text, available_at text)
language sql stable
set enable_seqscan = off set enable_bitmapscan = off set jit = off set datestyle = 'ISO' set timezone = 'UTC'
as $f$
  select distinct s.queue, event_hint.at::text
  from (select distinct e.topic from json_to_recordset(event_hint.events) as e (topic text)) asked
  cross join lateral orchestratum.topic_patterns(asked.topic) p (pattern)
  cross join lateral (
    select x.subscription
    from orchestratum.subscription_pattern x
    where x.pattern = p.pattern
    offset 0
  ) matched
  cross join lateral (select y.queue from orchestratum.subscription y where y.name = matched.subscription limit 1) s
  union all
  select h.queue, h.available_at from orchestratum.reader_hint(event_hint.at) h
$f$;
