-- Puts a rebuilt generation of a reader in the place of the one that is in use, where it has come as far; both are locked meanwhile, so
-- whoever asks which generation is in use never sees the projection go back. Answers `switched`; `behind`, and then the other one stands
-- still for five seconds, so that a log which never rests cannot keep the two apart; `busy` where a row is locked, as by the other one's
-- open transaction; `lost` where the lease is over or not this process's any more. Repeated after a lost reply it answers `switched` again.
-- A reader that is paused stays so.
-- The holder of the other generation finds its row gone: its next checkpoint is refused, and what it wrote is rolled back.
create function orchestratum.switch_reader(
  reader text, generation int, worker text, fence int, at timestamptz default clock_timestamp()
)
returns text
language plpgsql volatile
as $f$
declare
  reached bigint;
  current_position bigint;
  current_generation int;
  current_newest int;
  current_paused_at timestamptz;
  was_building boolean;
begin
  perform orchestratum.require_read_committed();
  select r.position, r.building into reached, was_building
  from orchestratum.reader r
  where r.name = switch_reader.reader
    and r.generation = switch_reader.generation
    and r.fence = switch_reader.fence
    and r.leased_by = switch_reader.worker
    and r.available_at > switch_reader.at
  for update skip locked;
  if not found then
    return case
      when exists (
        select
        from orchestratum.reader r
        where r.name = switch_reader.reader
          and r.generation = switch_reader.generation
          and r.fence = switch_reader.fence
          and r.leased_by = switch_reader.worker
          and r.available_at > switch_reader.at
      ) then 'busy'
      else 'lost'
    end;
  end if;
  if not was_building then
    return 'switched';
  end if;
  select r.position, r.generation, r.newest, r.paused_at
  into current_position, current_generation, current_newest, current_paused_at
  from orchestratum.reader r
  where r.name = switch_reader.reader and not r.building
  for update skip locked;
  if not found and exists (select from orchestratum.reader r where r.name = switch_reader.reader and not r.building) then
    return 'busy';
  end if;
  if reached < current_position then
    update orchestratum.reader r
    set fence = r.fence + 1,
        leased_by = 'switch',
        available_at = switch_reader.at + interval '5 seconds'
    where r.name = switch_reader.reader
      and r.generation = current_generation
      and not (coalesce(r.leased_by, '') = 'switch' and r.available_at > switch_reader.at);
    return 'behind';
  end if;
  delete from orchestratum.reader r where r.name = switch_reader.reader and r.generation = current_generation;
  update orchestratum.reader r
  set building = false,
      newest = greatest(r.newest, current_newest),
      paused_at = coalesce(r.paused_at, current_paused_at)
  where r.name = switch_reader.reader and r.generation = switch_reader.generation;
  return 'switched';
end $f$;
