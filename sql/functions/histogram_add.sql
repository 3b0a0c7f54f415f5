-- Two histograms as one: {"<bucket>": <how many>}.
create function orchestratum.histogram_add(one jsonb, other jsonb)
returns jsonb
language sql immutable
as $f$
  select coalesce(jsonb_object_agg(summed.bucket, summed.count), '{}')
  from (
    select either.bucket, sum(either.count::bigint) as count
    from (
      select a.key as bucket, a.value as count from jsonb_each_text(one) a
      union all
      select b.key, b.value from jsonb_each_text(other) b
    ) either
    group by either.bucket
  ) summed
$f$;
