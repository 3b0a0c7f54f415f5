-- The slot that an event appended at `at` goes to: 0, which is kept for ever, where no retention is set; else one of the ring, 1 to 16, which
-- turns once in 16/14 of what is kept.
create function orchestratum.event_slot(at timestamptz)
returns smallint
language sql stable
as $f$
  select coalesce(1 + floor(extract(epoch from at) / extract(epoch from s.keep_events) * 14)::bigint % 16, 0)::smallint
  from orchestratum.setting s
$f$;
