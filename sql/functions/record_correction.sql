-- Notes that an operator gave these commands another input, each by itself: a push that is repeated with the input of the first one is
-- known by that as a repeat (push_batch).
create function orchestratum.record_correction(at timestamptz, by_whom text, kind text, corrected uuid[])
returns void
language sql volatile
as $f$
  insert into orchestratum.act (at, by_whom, kind, target, affected)
  select record_correction.at, record_correction.by_whom, record_correction.kind, json_build_object('ids', json_build_array(v), 'corrected', true), 1
  from unnest(record_correction.corrected) v
$f$;
