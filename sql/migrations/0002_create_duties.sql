-- What the fleet knows of itself: which names have handlers, and whose turn it is at the background work.
insert into orchestratum.migration (version, name) values (2, 'create_duties');

-- Which names some worker has a handler for, with which hooks and defaults (what a push from plain SQL goes by). Written by workers when they
-- start and once a minute while they work; they only ever add to it.
create table orchestratum.handler (
  name text not null,
  version smallint not null,
  hooks text[] not null,
  upgrades boolean not null default false,  -- takes inputs of older versions, too
  seen_at timestamptz not null,
  queue text,
  priority smallint,
  max_attempts smallint,
  timeout_ms int,
  primary key (name, version)
);

-- Background work of the fleet, each done by one worker at a time under a lease: a fence tells a late holder that it is one.
create table orchestratum.duty (
  name text primary key,                -- 'retention', 'rescan <queue>'
  next_run_at timestamptz not null check (isfinite(next_run_at)),  -- times are subtracted; who wants none writes a far one
  leased_by text,
  lease_ends_at timestamptz,
  fence int not null default 0,
  last_started_at timestamptz,
  last_finished_at timestamptz,
  last_duration_ms double precision,
  last_worker text,
  last_error text                       -- null: the last run went well
) with (fillfactor = 50);               -- few rows, updated for ever: room for them to stay on their page
