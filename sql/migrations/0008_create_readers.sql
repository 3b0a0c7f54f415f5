-- Readers of the event log with their checkpoints, and how long events are kept.
insert into orchestratum.migration (version, name) values (8, 'create_readers');

-- A reader's checkpoint, leased like a command: one process at a time reads for it, and a late one is told by the fence that it is one.
-- While a reader is being rebuilt it has two rows: the one that is in use, and the one that is `building`.
create table orchestratum.reader (
  name text not null check (char_length(name) between 1 and 200),
  generation int not null check (generation > 0),  -- where its projection keeps what it writes
  newest int not null default 1,        -- of those in use: the last generation that was begun, so that none ever gets another's number
  building boolean not null,
  position bigint not null check (position >= 0),  -- the last event that has been dealt with
  available_at timestamptz not null,    -- when a process may take it: lease end and retry delay in one
  fence int not null default 0,         -- one more whenever the lease begins, or is taken from its holder; never reset
  leased_by text,
  paused_at timestamptz,
  failures int not null default 0,      -- in a row
  last_error text,                      -- null: the last batch went well
  last_failed_at timestamptz,
  checkpoint_at timestamptz,
  created_at timestamptz not null,
  primary key (name, generation)
) with (fillfactor = 50);               -- few rows, updated for ever: room for them to stay on their page
create unique index reader_role on orchestratum.reader (name, building);

-- Null: for ever. What was appended while it was null stays for ever.
alter table orchestratum.setting add column keep_events interval check (keep_events >= interval '1 hour');

-- By which expire_events finds a slot's newest and oldest. Slot 0 is never emptied, and has none: where nothing is ever deleted an append
-- need not pay for it.
do $$
begin
  for slot in 1..16 loop
    execute format('create index event_%s_appended on orchestratum.event_%s (appended_at)', slot, slot);
  end loop;
end $$;
