-- Metadata without the actor. What cannot be read so (only SQL could have written it) goes altogether.
create function orchestratum.erased_metadata(metadata json)
returns json
language plpgsql immutable
as $f$
begin
  return case when jsonb_typeof(metadata::jsonb) = 'object' then (metadata::jsonb - 'actor')::json end;
exception when others then
  return null;
end $f$;
