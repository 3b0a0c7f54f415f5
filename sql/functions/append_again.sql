-- Append, where these very events may have been appended before (the reply was lost): then it answers the version that they left the
-- stream at, and appends nothing. It looks first, and once more if the append met a conflict or the same ids: the first append may have
-- been open until then. Rows as append answers them.
create function orchestratum.append_again(stream text, expected_version int, events json, at timestamptz default clock_timestamp())
returns table (version int, queue text, available_at text)
language plpgsql volatile
set enable_seqscan = off set enable_bitmapscan = off set jit = off
as $f$
#variable_conflict use_column
declare
  reached int;
begin
  perform orchestratum.require_read_committed();
  for turn in 1..2 loop
    select coalesce(e.version - 1 + json_array_length(append_again.events), 0) into reached
    from orchestratum.event e
    where e.id = (append_again.events -> 0 ->> 'id')::uuid and e.stream is not distinct from append_again.stream
    limit 1;
    if found then
      return query select reached, null::text, null::text;
      -- The hint may have been lost with the reply.
      return query select null::int, h.queue, h.available_at from orchestratum.event_hint(append_again.events, append_again.at) h;
      return;
    end if;
    begin
      return query
      select a.version, a.queue, a.available_at
      from orchestratum.append(append_again.stream, append_again.expected_version, append_again.events, append_again.at) a;
      if found then
        return;
      end if;
    exception when unique_violation then
      if turn = 2 then raise; end if;
    end;
  end loop;
end $f$;
