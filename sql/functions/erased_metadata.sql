-- Of metadata what ties a chain together and its source: whatever else is in it may be about a person. What cannot be read so (only SQL could have written it) goes altogether.
create function orchestratum.erased_metadata(metadata json)
returns json
language plpgsql immutable
as $f$
begin
  return (
    select jsonb_object_agg(kept.key, kept.value)::json
    from jsonb_each(metadata::jsonb) kept
    where kept.key in ('correlationId', 'causationId', 'source', 'issuedAt', 'traceparent', 'tracestate')
  );
exception when others then
  return null;
end $f$;
