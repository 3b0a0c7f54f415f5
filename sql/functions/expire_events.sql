-- Empties at most one slot of events whose newest is past its retention, and answers which (null: none). Called by a duty, again while it
-- answers; nothing is emptied where no retention is set.
-- What some reader has not dealt with stays, whatever its age: a projection that lacks events is wrong, and nobody would see it. The
-- operator who has no use for that reader removes it. What has no position yet stays, too. Positions are never given a second time, so
-- every cursor goes on with what there is.
-- Locks first and looks then, as expire_history does, and with its rights and limits.
create function orchestratum.expire_events(at timestamptz default clock_timestamp())
returns int
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp set lock_timeout = '50ms'
as $f$
declare
  kept interval;
  newest timestamptz;
  last_position bigint;
begin
  perform orchestratum.require_read_committed();
  select s.keep_events into kept from orchestratum.setting s;
  if kept is null then
    return null;
  end if;
  <<slots>>
  for slot in 1..16 loop
    for turn in 1..2 loop
      execute format(
        'select (select max(appended_at) from orchestratum.event_%s), (select max(position) from orchestratum.event_position_%s)', slot, slot
      ) into newest, last_position;
      continue slots when newest is null or newest >= least(at, clock_timestamp()) - kept
        or exists (select from orchestratum.event_inbox i where i.slot = slots.slot)
        or exists (select from orchestratum.reader r where r.position < last_position);
      if turn = 1 then
        begin
          execute format('lock table orchestratum.event_%s, orchestratum.event_position_%s in access exclusive mode', slot, slot);
        exception when lock_not_available then
          continue slots;
        end;
      end if;
    end loop;
    execute format('truncate orchestratum.event_%s, orchestratum.event_position_%s', slot, slot);
    return slot;
  end loop;
  return null;
end $f$;
revoke execute on function orchestratum.expire_events from public;
