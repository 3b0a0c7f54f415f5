-- Appends to several streams, all or none, within the caller's transaction, which stays usable after a conflict.
-- appends: [{"stream", "expected_version", "events"}], events as append takes them. In the order of the streams' names, so that two of these
-- wait for each other in one direction only. Answers each stream's new version; where a row says `conflict`, that stream is at the version
-- it names, and the other rows count for nothing. Rows without a stream tell what to hint at.
create function orchestratum.append_all(appends json, at timestamptz default clock_timestamp())
returns table (stream text, version int, conflict boolean, queue text, available_at text)
language plpgsql volatile
set enable_seqscan = off set enable_bitmapscan = off set jit = off
as $f$
#variable_conflict use_column
declare
  one record;
  appended boolean;
begin
  perform orchestratum.require_read_committed();
  conflict := false;
  for one in
    select a.stream, a.expected_version, a.events
    from rows from (
      json_to_recordset(append_all.appends) as (stream text, expected_version int, events json)
    ) with ordinality as a (stream, expected_version, events, place)
    order by a.stream collate "C", a.place
  loop
    appended := false;
    for version, queue, available_at in
      select a.version, a.queue, a.available_at
      from orchestratum.append(one.stream, one.expected_version, one.events, append_all.at) a
    loop
      appended := appended or version is not null;
      stream := case when version is not null then one.stream end;
      return next;
    end loop;
    if not appended then
      raise exception 'Cannot append to stream "%": it is at another version', one.stream using errcode = 'OR003';
    end if;
  end loop;
exception when sqlstate 'OR003' then
  return query
  select one.stream, coalesce((select s.version from orchestratum.stream s where s.name = one.stream), 0), true, null::text, null::text;
end $f$;
