-- For psql, triggers and other languages: one command by name and input; what is not said is taken from what its handler registered.
-- options: the keys of a pushed command: id, version, queue, priority (0 first, 9 last), due_at (ISO 8601; without a zone it is UTC) or delay_ms,
-- max_attempts, timeout_ms, metadata. An input may have 262,144 bytes, metadata 8,192.
-- Answers the id. `select orchestratum.push('send_email', '{"to": "a@example.com"}', '{"delay_ms": 60000}')`.
-- Input and metadata go through as the text that they are.
-- It notifies in its own transaction, since nobody is behind it to do so later. NOTIFY makes commits wait for each other (183 instead of
-- 4,800 a second at 5 ms a commit): at more than some dozens a second, push through the library or leave it to polling with push_batch.
create function orchestratum.push(name text, input json default null, options json default '{}')
returns uuid
language plpgsql volatile
as $f$
#variable_conflict use_column
declare
  pushed record;
begin
  if octet_length(push.input::text) > 262144 then
    raise exception 'Cannot push command "%": its input has % bytes, and at most 262144 are allowed', push.name, octet_length(push.input::text)
      using errcode = 'program_limit_exceeded';
  end if;
  if octet_length((push.options -> 'metadata')::text) > 8192 then
    raise exception 'Cannot push command "%": its metadata has % bytes, and at most 8192 are allowed',
      push.name, octet_length((push.options -> 'metadata')::text) using errcode = 'program_limit_exceeded';
  end if;
  select p.id, p.queue, p.available_at into pushed
  from orchestratum.push_batch(
    json_build_array((
      select json_object_agg(field.key, field.value)
      from (select) one
      left join lateral (
        select * from orchestratum.handler h where h.name = push.name order by h.version desc limit 1
      ) h on true
      cross join lateral (
        select o.key, o.value from json_each(push.options) o where o.key not in ('name', 'input', 'null_input') and json_typeof(o.value) <> 'null'
        union all
        select d.key, d.value
        from json_each(json_strip_nulls(json_build_object(
          'version', h.version, 'queue', h.queue, 'priority', h.priority, 'max_attempts', h.max_attempts, 'timeout_ms', h.timeout_ms
        ))) d
        where coalesce(json_typeof(push.options -> d.key), 'null') = 'null'
        union all
        select 'name', to_json(push.name)
        union all
        select case when json_typeof(push.input) = 'null' then 'null_input' else 'input' end,
          case when json_typeof(push.input) = 'null' then 'true'::json else push.input end
      ) field
    )),
    push.options ->> 'id' is not null
  ) p;
  perform pg_notify('orchestratum', 'q ' || pushed.queue || ' ' || floor(extract(epoch from pushed.available_at::timestamptz) * 1000)::bigint)
  where pushed.id is not null;
  return coalesce(pushed.id::uuid, (push.options ->> 'id')::uuid);
end $f$;
