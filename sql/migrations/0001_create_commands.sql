-- The live work and the finished work.
create schema orchestratum;

create table orchestratum.migration (
  version int primary key,
  name text not null,
  applied_at timestamptz not null default now()
);
insert into orchestratum.migration (version, name) values (1, 'create_commands');

-- One row. A ring of history turns once in 16/14 of its retention.
create table orchestratum.setting (
  id boolean primary key default true check (id),
  keep_succeeded interval not null default '7 days' check (keep_succeeded >= interval '1 hour'),
  keep_other interval not null default '30 days' check (keep_other >= interval '1 hour'),
  functions_hash text  -- which version of sql/functions is installed; null: none, or unknown
);
insert into orchestratum.setting (id) values (true);

-- Only what is not finished. Every row is in two indexes: the primary key and command_claim. No index but the primary key contains the id:
-- on an empty table `id = …` would tie between the two, and a plan that was cached then reads a whole index for every row for ever after
-- (30 s for a finish of 500 among a million). The same for history.
-- input, output, metadata and progress are json, not jsonb: the handler gets the text that was pushed (1e300 stays five characters, not 301),
-- nothing is parsed and printed again at every claim, and octet_length() knows the size without reading a toasted value.
-- No status is stored: it follows from leased_by and available_at, so that no two columns can contradict each other.
create table orchestratum.command (
  -- Each row has two entries here before vacuum comes, its own and its claim's: a page that is half full takes both without a split.
  id uuid primary key with (fillfactor = 50),
  name text not null check (char_length(name) between 1 and 200),
  version smallint not null check (version > 0),
  hook text check (hook in ('failure', 'cancellation')),  -- set: runs that hook of its parent, not the handler
  queue text not null check (char_length(queue) between 1 and 100 and strpos(queue, ' ') = 0),  -- travels in a notification
  priority smallint not null check (priority between 0 and 9),  -- 0 is first
  due_at timestamptz not null check (due_at between '1970-01-01' and '9999-12-31'),  -- when it was wanted: for people; no statement decides on it
  available_at timestamptz not null,    -- when a worker may claim it: schedule, retry delay and lease end in one
  fence int not null default 0,         -- number of the newest lease; never reused, never reset
  attempt smallint not null default 0,  -- counted at claim, also past the maximum (only to be ended); handed back by release and snooze
  max_attempts smallint not null check (max_attempts > 0),
  losses smallint not null default 0,   -- leases that ended without a word
  timeout_ms int not null check (timeout_ms > 0),
  leased_by text,                       -- set by a claim, cleared by every outcome
  started_at timestamptz,
  cancel_requested_at timestamptz,
  unknown_since timestamptz,            -- since when no worker that claimed it had a handler for it
  awaited boolean not null default false,  -- somebody waits for its end: the finish says so, and is followed by a notification
  parent_id uuid,
  input json,
  metadata json,
  progress json,
  trail jsonb,                          -- what became of earlier leases, oldest first
  created_at timestamptz not null
) with (
  -- A truncation at the end of vacuum takes an exclusive lock and makes every claim wait; the table is refilled at once anyway.
  vacuum_truncate = off,
  autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_cost_delay = 0,
  autovacuum_analyze_scale_factor = 0, autovacuum_analyze_threshold = 2000
);
create index command_claim on orchestratum.command (queue, priority, available_at);

-- Finished commands, in two rings of 16 slots that retention empties by truncate: 0 to 15 what succeeded, 16 to 31 the rest.
-- Nothing is created or dropped at run time. The primary key is also what a logical subscriber finds rows by when an operator retries or
-- erases one; the whole row would not do, since json has no equality.
create table orchestratum.history (
  slot smallint not null,
  id uuid not null,
  name text not null,
  version smallint not null,
  hook text,
  queue text not null,
  priority smallint not null,
  status text not null check (status in ('succeeded', 'failed', 'cancelled', 'timed_out', 'not_found')),
  due_at timestamptz not null,
  fence int not null,
  attempt smallint not null,
  max_attempts smallint not null,
  losses smallint not null,
  timeout_ms int not null,
  worker text,
  started_at timestamptz,
  finished_at timestamptz not null,
  cancel_requested_at timestamptz,
  parent_id uuid,
  input json,
  output json,
  metadata json,
  trail jsonb,
  created_at timestamptz not null,
  primary key (id, slot)
) partition by list (slot);
do $$
begin
  for slot in 0..31 loop
    execute format('create table orchestratum.history_%s partition of orchestratum.history for values in (%s)', slot, slot);
  end loop;
end $$;
create index history_finished on orchestratum.history (finished_at);
