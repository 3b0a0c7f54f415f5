-- Events: facts, appended and never changed; and who gets them.
insert into orchestratum.migration (version, name) values (7, 'create_events');

-- A stream's version is its length.
create table orchestratum.stream (
  name text primary key check (char_length(name) between 1 and 200),
  version int not null
);

-- Slot 0 is kept for ever; 1 to 16 are the ring of a store that has a retention, emptied by truncate. Nothing is created at run time.
-- As with commands, no index but the primary key contains the id.
create table orchestratum.event (
  id uuid not null,
  slot smallint not null,
  stream text,                          -- null: published to no stream, and without any lock
  version int,
  topic text not null check (char_length(topic) between 1 and 200),
  data json,
  metadata json,
  appended_at timestamptz not null,
  primary key (id, slot),
  check ((stream is null) = (version is null))
) partition by list (slot);

-- A guard, and how a stream is read; the row in `stream` is what decides.
create unique index event_stream on orchestratum.event (stream, version, slot) where stream is not null;

-- Committed but not yet placed in the log, in the order of insertion. Small and soon empty.
create table orchestratum.event_inbox (
  seq bigint generated always as identity primary key,
  event_id uuid not null,
  slot smallint not null
) with (
  vacuum_truncate = off,
  autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_cost_delay = 0,
  autovacuum_analyze_scale_factor = 0, autovacuum_analyze_threshold = 2000
);

-- The log: one integer an event, given after its commit by whoever reads.
create table orchestratum.event_position (
  position bigint not null,
  slot smallint not null,
  event_id uuid not null,
  primary key (position, slot)
) partition by list (slot);
do $$
begin
  for slot in 0..16 loop
    execute format('create table orchestratum.event_%s partition of orchestratum.event for values in (%s)', slot, slot);
    execute format('create table orchestratum.event_position_%s partition of orchestratum.event_position for values in (%s)', slot, slot);
  end loop;
end $$;

create table orchestratum.event_head (
  id boolean primary key default true check (id),
  position bigint not null default 0
);
insert into orchestratum.event_head (id) values (true);

-- Who gets events, and as what: each delivery is a command named `deliver:<name>`. Written by workers when they start, and by hand.
-- One that was removed keeps its row, by which its deliveries are still found.
create table orchestratum.subscription (
  name text primary key check (char_length(name) between 1 and 100),
  queue text not null check (char_length(queue) between 1 and 100 and strpos(queue, ' ') = 0),
  priority smallint not null check (priority between 0 and 9),
  max_attempts smallint not null check (max_attempts > 0),
  timeout_ms int not null check (timeout_ms > 0),
  added_at timestamptz not null,
  seen_at timestamptz not null,         -- when a worker last said that it has the handler
  removed_at timestamptz
);

-- What a subscription chooses; found by equality with the patterns that could match a topic, so never read as a whole.
create table orchestratum.subscription_pattern (
  pattern text not null check (char_length(pattern) between 1 and 200),
  subscription text not null references orchestratum.subscription (name) on delete cascade,
  primary key (pattern, subscription)
);

-- Dead letters can be dropped, which is noted as the other acts are.
alter table orchestratum.act drop constraint act_kind_check;
alter table orchestratum.act add constraint act_kind_check
  check (kind in ('cancel', 'retry', 'edit', 'reschedule', 'reprioritise', 'erase', 'pause', 'resume', 'drop'));
