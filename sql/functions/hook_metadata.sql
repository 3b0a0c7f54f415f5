-- The metadata of a hook command: its parent's, with the parent as its cause. What cannot be merged (only SQL could have written it) is left
-- behind rather than keep its command from ever ending.
create function orchestratum.hook_metadata(metadata json, parent_id uuid)
returns json
language plpgsql immutable
as $f$
begin
  if metadata is not null then
    -- A block with an exception handler is a subtransaction: it is entered only where something can be thrown.
    begin
      return (
        jsonb_build_object('correlationId', parent_id)
        || case when jsonb_typeof(metadata::jsonb) = 'object' then metadata::jsonb else '{}' end
        || jsonb_build_object('causationId', parent_id)
      )::json;
    exception when others then
      null;
    end;
  end if;
  return json_build_object('correlationId', parent_id, 'causationId', parent_id);
end $f$;
