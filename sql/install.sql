-- Generated from sql/ by scripts/build-sql.ts (`npm run generate`). Not to be edited.
--
-- Everything at once, for an empty database: psql -v ON_ERROR_STOP=1 -f install.sql
-- It is one transaction. Where the schema is there already it fails at once and changes nothing; an upgrade is what
-- `orchestratum migrate` does, and `orchestratum sql` prints it, for any name of the schema.

begin;

-- What every migration script begins with. The lock lasts until the transaction ends, whatever becomes of it, and so is
-- safe behind a transaction pooler: of many processes that start at once one goes on, and the others find its work done.
set local client_min_messages = warning;
set local statement_timeout = 0;
do $$ begin perform pg_advisory_xact_lock(hashtextextended('orchestratum', 0)); end $$;

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

-- Every command, waiting, running or finished, as a person wants to read it: the one place where a status is spelled out.
-- For psql, reports and counts. A read by id goes through get(), whose plan no statistics can spoil.
insert into orchestratum.migration (version, name) values (3, 'create_all_commands');

create view orchestratum.all_commands as
select
  c.id, c.queue, c.name, c.version, c.hook, c.priority,
  case
    when c.available_at <= clock.at then 'pending'
    when c.leased_by is null then 'scheduled'
    else 'running'
  end as status,
  c.input, null::json as output, c.progress,
  c.created_at, c.due_at,
  c.available_at as next_attempt_at,
  c.timeout_ms,
  case when c.leased_by is not null and c.available_at > clock.at then c.started_at end as running_since,
  case when c.leased_by is not null then c.available_at end as lease_ends_at,
  c.leased_by as worker,
  c.started_at,
  null::timestamptz as finished_at, null::timestamptz as completed_at, null::timestamptz as cancelled_at, null::timestamptz as failed_at,
  c.cancel_requested_at, c.unknown_since,
  c.fence, least(c.attempt, c.max_attempts) as attempt, c.max_attempts, greatest(c.max_attempts - c.attempt, 0) as retries_left, c.losses,
  c.parent_id, c.metadata, c.trail
from orchestratum.command c
cross join (select clock_timestamp() as at) clock
union all
select
  h.id, h.queue, h.name, h.version, h.hook, h.priority,
  h.status,
  h.input, h.output, null::json,
  h.created_at, h.due_at,
  null::timestamptz,
  h.timeout_ms,
  null::timestamptz,
  null::timestamptz,
  h.worker,
  h.started_at,
  h.finished_at,
  case when h.status = 'succeeded' then h.finished_at end,
  case when h.status = 'cancelled' then h.finished_at end,
  case when h.status in ('failed', 'timed_out', 'not_found') then h.finished_at end,
  h.cancel_requested_at, null::timestamptz,
  h.fence, h.attempt, h.max_attempts, greatest(h.max_attempts - h.attempt, 0), h.losses,
  h.parent_id, h.metadata, h.trail
from orchestratum.history h;

-- What lists, timelines and trees look for among finished commands: whose follow-up, and of which chain.
insert into orchestratum.migration (version, name) values (4, 'create_history_indexes');

create index history_parent on orchestratum.history (parent_id) where parent_id is not null;

-- The first command of a chain has its own id as correlation id, and does not write it down; most have no metadata, and are in no index here.
-- An index that refuses a row would keep its command from ever ending. So metadata with an escape such as \u0000, for which ->> raises an
-- error, has no key here, and long texts, for which a page has no room, are cut. The function that looks by it has this expression to the letter.
-- Its condition is a plain one, since it is asked for every row; and it sorts by bytes, which costs less than a language's order and stays the same
-- when the operating system changes that.
create index history_correlation on orchestratum.history (
  (
    case
      when strpos(metadata::text, '\u') = 0 or strpos(replace(metadata::text, '\\', ''), '\u') = 0 then left(metadata ->> 'correlationId', 200)
    end
  ) collate "C"
)
where metadata is not null;

-- What came of the last day, in rows so small that a page can read them every second, whatever there is in history. fold_history writes them.
insert into orchestratum.migration (version, name) values (5, 'create_statistics');

-- One row: up to when history has been folded (exclusive; null: never). Whoever folds holds its lock.
create table orchestratum.statistic_fold (
  id boolean primary key default true check (id),
  folded_until timestamptz
);
insert into orchestratum.statistic_fold (id) values (true);

-- What ended in five minutes, and once more in an hour: a day is read as 24 hours, and five minutes only where the day begins.
-- Histograms: {"<bucket>": <how many>}, bucket n from 2^(n/4) microseconds up to 2^((n+1)/4), so four an octave. They, and the sums, are of
-- what a handler came to an end with: succeeded, failed, timed out.
create table orchestratum.statistic (
  span smallint not null check (span in (5, 60)),  -- minutes
  started_at timestamptz not null,
  queue text not null,
  name text not null,
  hook text not null,                   -- '': none
  status text not null,
  count bigint not null,
  waiting_ms double precision not null,
  execution_ms double precision not null,
  waiting jsonb not null,
  execution jsonb not null,
  primary key (span, started_at, queue, name, hook, status)
) with (fillfactor = 80);               -- the newest are updated every few seconds

create table orchestratum.statistic_worker (
  span smallint not null check (span in (5, 60)),
  started_at timestamptz not null,
  worker text not null,
  hook text not null,
  status text not null,
  count bigint not null,
  executed bigint not null,             -- how many of them execution_ms is the sum of
  execution_ms double precision not null,
  primary key (span, started_at, worker, hook, status)
) with (fillfactor = 80);

-- What operators have done, and which queues they have paused.
insert into orchestratum.migration (version, name) values (6, 'create_acts');

-- Who changed what by hand, when, and how many commands that was. Written by the statement that makes the change. Never a payload: the
-- commands are named by their ids, or by the filter that found them.
create table orchestratum.act (
  id bigint generated always as identity primary key,
  at timestamptz not null,
  by_whom text check (char_length(by_whom) between 1 and 200),  -- null: nobody said
  kind text not null check (kind in ('cancel', 'retry', 'edit', 'reschedule', 'reprioritise', 'erase', 'pause', 'resume')),
  target json not null,                 -- {"ids": […]} (the first 20), {"filter": {…}} or {"queue": "…"}
  affected int not null                 -- of a pause what waited there, counted up to 10,000
);

-- Since when a person's data is gone from it: it is not retried without a new input, and a repeated push has nothing to be compared with.
alter table orchestratum.history add column erased_at timestamptz;

-- Workers leave these queues out of their claims.
create table orchestratum.paused_queue (
  queue text primary key check (char_length(queue) between 1 and 100 and strpos(queue, ' ') = 0),
  paused_at timestamptz not null,
  paused_by text
);

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

-- Who works, and how it goes, as a person wants to read it.
insert into orchestratum.migration (version, name) values (9, 'create_workers');

-- Every worker says that it is there: when it starts, once a minute while it works, with every poll while it idles, and when it stops. Never with
-- a claim, a heartbeat or an outcome. The duty `retention` takes out those that have not been heard of for a day.
create table orchestratum.worker (
  id text primary key,                  -- new at every start
  instance text,
  runtime text,                         -- 'node 24.1.0'; null: nobody said
  host text,
  queues text[] not null,
  concurrency int not null,
  running int not null,                 -- handlers, when it was last seen
  lost_after_ms int not null check (lost_after_ms > 0),  -- not seen for this long, it counts as lost
  started_at timestamptz not null,
  last_seen_at timestamptz not null,
  stopped_at timestamptz                -- null: it has not said so
) with (fillfactor = 50);               -- few rows, updated for ever: room for them to stay on their page

-- Workers, with what they run by the leases they hold, and what of them ended in the last 24 hours, hook commands left out, as stats() tells it.
create view orchestratum.all_workers as
select
  w.id, w.instance,
  case
    when w.stopped_at is not null then 'stopped'
    when w.last_seen_at < clock.at - w.lost_after_ms * interval '1 millisecond' then 'lost'
    else 'running'
  end as status,
  w.runtime, w.host, w.queues, w.concurrency,
  coalesce(live.running, 0) as running,
  coalesce(past.finished, 0)::bigint as finished, coalesce(past.failed, 0)::bigint as failed, coalesce(past.cancelled, 0)::bigint as cancelled,
  past.mean_execution_ms,
  w.started_at, w.last_seen_at, w.stopped_at
from orchestratum.worker w
cross join (select clock_timestamp() as at) clock
left join (
  select c.leased_by as worker, count(*) as running
  from orchestratum.command c
  cross join (select clock_timestamp() as at) clock
  where c.leased_by is not null and c.available_at > clock.at and c.hook is null
  group by c.leased_by
) live on live.worker = w.id
left join (
  select
    s.worker,
    sum(s.count) filter (where s.status = 'succeeded') as finished,
    sum(s.count) filter (where s.status not in ('succeeded', 'cancelled')) as failed,
    sum(s.count) filter (where s.status = 'cancelled') as cancelled,
    sum(s.execution_ms) / nullif(sum(s.executed), 0) as mean_execution_ms
  from orchestratum.statistic_worker s
  cross join (
    select
      date_bin('5 minutes', c.at - interval '24 hours', '2000-01-01 00:00:00+00') + interval '5 minutes' as since,
      date_bin('1 hour', c.at - interval '24 hours', '2000-01-01 00:00:00+00') + interval '1 hour' as first_hour
    from (select clock_timestamp() as at) c
  ) day
  where s.hook = ''
    and (s.span = 5 and s.started_at >= day.since and s.started_at < day.first_hour or s.span = 60 and s.started_at >= day.first_hour)
  group by s.worker
) past on past.worker = w.id;

-- Queues in which something lives or ended in the last 24 hours, that a worker serves, or that are paused; hook commands left out.
create view orchestratum.all_queues as
select
  q.queue,
  coalesce(served.workers, 0) as workers,
  paused.paused_at, paused.paused_by,
  coalesce(live.scheduled, 0) as scheduled, coalesce(live.pending, 0) as pending, coalesce(live.running, 0) as running, live.oldest_due_at,
  coalesce(past.finished, 0)::bigint as finished, coalesce(past.failed, 0)::bigint as failed, coalesce(past.cancelled, 0)::bigint as cancelled,
  past.waiting_ms / nullif(executed.count, 0) as mean_waiting_ms,
  past.execution_ms / nullif(executed.count, 0) as mean_execution_ms
from (
  select c.queue from orchestratum.command c where c.hook is null
  union
  select k.queue from orchestratum.paused_queue k
  union
  select unnest(w.queues) from orchestratum.worker w
  union
  select s.queue
  from orchestratum.statistic s
  cross join (select clock_timestamp() as at) c
  where s.hook = '' and s.span = 60 and s.started_at >= c.at - interval '24 hours'
) q
left join orchestratum.paused_queue paused on paused.queue = q.queue
left join (
  select unnest(w.queues) as queue, count(*) as workers
  from orchestratum.worker w
  cross join (select clock_timestamp() as at) clock
  where w.stopped_at is null and w.last_seen_at >= clock.at - w.lost_after_ms * interval '1 millisecond'
  group by 1
) served on served.queue = q.queue
left join (
  select
    c.queue,
    count(*) filter (where c.available_at > clock.at and c.leased_by is null) as scheduled,
    count(*) filter (where c.available_at <= clock.at) as pending,
    count(*) filter (where c.available_at > clock.at and c.leased_by is not null) as running,
    min(c.due_at) filter (where c.available_at <= clock.at) as oldest_due_at
  from orchestratum.command c
  cross join (select clock_timestamp() as at) clock
  where c.hook is null
  group by c.queue
) live on live.queue = q.queue
left join (
  select
    s.queue,
    sum(s.count) filter (where s.status = 'succeeded') as finished,
    sum(s.count) filter (where s.status not in ('succeeded', 'cancelled')) as failed,
    sum(s.count) filter (where s.status = 'cancelled') as cancelled,
    sum(s.waiting_ms) as waiting_ms,
    sum(s.execution_ms) as execution_ms
  from orchestratum.statistic s
  cross join (
    select
      date_bin('5 minutes', c.at - interval '24 hours', '2000-01-01 00:00:00+00') + interval '5 minutes' as since,
      date_bin('1 hour', c.at - interval '24 hours', '2000-01-01 00:00:00+00') + interval '1 hour' as first_hour
    from (select clock_timestamp() as at) c
  ) day
  where s.hook = ''
    and (s.span = 5 and s.started_at >= day.since and s.started_at < day.first_hour or s.span = 60 and s.started_at >= day.first_hour)
  group by s.queue
) past on past.queue = q.queue
left join (
  select s.queue, sum(h.value::bigint) as count
  from orchestratum.statistic s
  cross join (
    select
      date_bin('5 minutes', c.at - interval '24 hours', '2000-01-01 00:00:00+00') + interval '5 minutes' as since,
      date_bin('1 hour', c.at - interval '24 hours', '2000-01-01 00:00:00+00') + interval '1 hour' as first_hour
    from (select clock_timestamp() as at) c
  ) day
  cross join lateral jsonb_each_text(s.execution) h
  where s.hook = ''
    and (s.span = 5 and s.started_at >= day.since and s.started_at < day.first_hour or s.span = 60 and s.started_at >= day.first_hour)
  group by s.queue
) executed on executed.queue = q.queue;

-- Background work: who is at it, when it was last done and how that went.
create view orchestratum.all_duties as
select
  d.name,
  case when d.lease_ends_at > clock.at then d.leased_by end as worker,
  d.next_run_at, d.last_started_at, d.last_finished_at, d.last_duration_ms, d.last_worker, d.last_error
from orchestratum.duty d
cross join (select clock_timestamp() as at) clock;

-- Commands that are paused by their name, whatever their queue; and finding whether an operator corrected a command's input.
insert into orchestratum.migration (version, name) values (10, 'create_paused_names');

-- Workers put commands of these names off, as they do with names that nobody knows.
create table orchestratum.paused_name (
  name text primary key,
  paused_at timestamptz not null,
  paused_by text check (char_length(paused_by) between 1 and 200)  -- null: nobody said
);

-- Of the acts that gave a command another input: each of them names one command.
create index act_corrected on orchestratum.act ((target -> 'ids' ->> 0)) where target ->> 'corrected' is not null;

-- What a worker can execute, beside what it serves: a queue may be served by workers that have no handler for what waits in it.
insert into orchestratum.migration (version, name) values (11, 'add_worker_handlers');

-- [{"name", "version", "upgrades"}]; null: it is of a release that does not say.
alter table orchestratum.worker add column handlers json;

-- Percentiles of workers, as queues and names have them: how long what a worker ended had waited, and how long it ran.
insert into orchestratum.migration (version, name) values (12, 'add_worker_percentiles');

alter table orchestratum.statistic_worker
  add column waiting_ms double precision not null default 0,
  add column waiting jsonb not null default '{}',
  add column execution jsonb not null default '{}';

-- Drops the schema's functions, and remembers who might call them for after_functions.sql.
--
-- The schema is ours alone, so all of its functions are ours, also those that this release has no more. They go by oid:
-- `create or replace` refuses a new returned column, and a new argument would leave an overload beside the old one.
-- Nothing is dropped in cascade. Where something of the user's depends on a function, a column default or a function
-- with a body that is no string, the server names it, and the whole script is undone.
-- What is remembered travels in a setting of this transaction: not everybody may create a temporary table.
do $$
declare
  dropped record;
begin
  if (select s.functions_hash from orchestratum.setting s) is distinct from null then
    raise exception 'Cannot replace functions: another process did so meanwhile' using errcode = 'object_in_use';
  end if;

  perform set_config('orchestratum_migration.rights', (
    select coalesce(json_object_agg(held.name, held.rights), '{}')::text
    from (
      select
        p.proname as name,
        json_build_object(
          'public', bool_and(p.proacl is null or exists (select from aclexplode(p.proacl) a where a.grantee = 0)),
          'grants', (
            select coalesce(json_agg(distinct jsonb_build_object('role', r.rolname, 'grantable', a.is_grantable)), '[]')
            from pg_proc q
            cross join lateral aclexplode(q.proacl) a
            join pg_roles r on r.oid = a.grantee
            where q.pronamespace = p.pronamespace
              and q.proname = p.proname
              and a.grantee <> q.proowner
          )
        ) as rights
      from pg_proc p
      where p.pronamespace = 'orchestratum'::regnamespace
        and p.prokind = 'f'
      group by p.pronamespace, p.proname
    ) held
  ), true);

  for dropped in
    select p.oid::regprocedure as signature
    from pg_proc p
    where p.pronamespace = 'orchestratum'::regnamespace
      and p.prokind = 'f'
  loop
    execute format('drop function %s', dropped.signature);
  end loop;
end $$;

-- The functions name each other, and are created in the order of the alphabet.
set local check_function_bodies = off;

-- Changes commands that wait. ids: ["…"]; change: any of {"input"}, {"due_at"} or {"delay_ms"}, {"priority"}.
-- Answers 'changed', 'running' (somebody holds a lease on it: left alone), 'cancelling' (it was to be cancelled when its lease ended without
-- a word: the next claim ends it, and nothing may put that off), 'finished', 'unknown', or 'busy' (locked by somebody: ask again).
-- Rows without an id tell what to hint at, as in finish.
-- Nothing is put behind a low-water mark: what is due anew, or comes into another lane, is available from the clock on, a microsecond apart in
-- the order that they had; what is scheduled stays so. With a new input alone a command keeps its place.
-- A lease that has expired without a word is taken away, as a claim would do it: whoever had it must not end the command by what it was.
create function orchestratum.amend(
  ids json, change json, kind text, by_whom text default null, at timestamptz default clock_timestamp()
)
returns table (id text, result text, queue text, available_at text)
language plpgsql volatile
set enable_seqscan = off set enable_bitmapscan = off set jit = off
set datestyle = 'ISO' set timezone = 'UTC' set lock_timeout = '200ms'
as $f$
#variable_conflict use_column
declare
  changed uuid[];
  running uuid[];
  cancelling uuid[];
  dues json;
  wanted_at timestamptz := coalesce(
    (amend.change ->> 'due_at')::timestamptz, at + (amend.change ->> 'delay_ms')::bigint * interval '1 millisecond');
  wanted_priority smallint := (amend.change ->> 'priority')::smallint;
begin
  perform orchestratum.require_read_committed();
  with locked as materialized (
    select l.*
    from (select distinct v::uuid as id from json_array_elements_text(amend.ids) v) asked
    cross join lateral (
      select
        c.ctid as row, c.id, c.available_at, c.leased_by is not null and c.available_at > at as runs,
        c.cancel_requested_at is not null as cancelled
      from orchestratum.command c
      where c.id = asked.id
      for update skip locked
    ) l
  ),
  placed as (
    select
      locked.row,
      case
        when wanted_at is null and (wanted_priority is null or locked.available_at > at) then locked.available_at
        else greatest(coalesce(wanted_at, locked.available_at), at)
          + (row_number() over (order by locked.available_at, locked.id) - 1) * interval '1 microsecond'
      end as available_at
    from locked
    where not locked.runs and not locked.cancelled
  ),
  written as (
    update orchestratum.command c
    set input = coalesce(amend.change -> 'input', c.input),
        due_at = coalesce(wanted_at, c.due_at),
        priority = coalesce(wanted_priority, c.priority),
        available_at = placed.available_at,
        losses = c.losses + (c.leased_by is not null)::int,
        trail = orchestratum.trail_lost(c, at),
        leased_by = null
    from placed
    where c.ctid = placed.row
    returning c.id, c.queue, c.available_at
  )
  select
    (select coalesce(array_agg(w.id order by w.available_at), '{}') from written w),
    (select coalesce(array_agg(l.id), '{}') from locked l where l.runs),
    (select coalesce(array_agg(l.id), '{}') from locked l where l.cancelled and not l.runs),
    (select json_agg(json_build_object('queue', w.queue, 'available_at', w.available_at)) from written w)
  into changed, running, cancelling, dues;
  if amend.change -> 'input' is null then
    perform orchestratum.record_act(amend.at, amend.by_whom, amend.kind, null, changed);
  else
    perform orchestratum.record_correction(amend.at, amend.by_whom, amend.kind, changed);
  end if;

  return query
  select
    asked.id::text,
    case
      when asked.id = any (changed) then 'changed'
      when asked.id = any (running) then 'running'
      when asked.id = any (cancelling) then 'cancelling'
      when live.id is not null then 'busy'
      when past.id is not null then 'finished'
      else 'unknown'
    end,
    null, null
  from (select distinct v::uuid as id from json_array_elements_text(amend.ids) v) asked
  left join lateral (select c.id from orchestratum.command c where c.id = asked.id limit 1) live on true
  left join lateral (select h.id from orchestratum.history h where h.id = asked.id limit 1) past on true
  union all
  select null, 'due', d.queue, min(d.available_at)::text
  from json_to_recordset(dues) as d (queue text, available_at timestamptz)
  group by d.queue;
end $f$;

-- Appends to one stream if it is at the version expected (0 for a new stream, null for any), and pushes the deliveries. Answers the new
-- version; no such row is the conflict, and the caller's transaction stays usable. Rows without a version tell what to hint at.
-- events: [{"id", "topic", "data" (or "null_data"), "metadata", "parent_id"}], at least one; parent_id: the command that publishes.
-- The lock on the stream's row is also what makes positions follow the order of the stream. A transaction that appends to several
-- streams takes them in the order of their names. Without a stream (null) there is no lock, no conflict, and the version is 0.
-- An append that may have been made before goes through append_again().
-- The stream is moved by itself: within the statement that writes the events both ways of moving it would be made ready at each append.
-- Whether there are subscriptions is asked in a statement of its own, before: whoever adds one waits for the transactions that have locked
-- that table, and so for every one whose events were matched without it.
create function orchestratum.append(stream text, expected_version int, events json, at timestamptz default clock_timestamp())
returns table (version int, queue text, available_at text)
language plpgsql volatile
set enable_seqscan = off set enable_bitmapscan = off set jit = off set plan_cache_mode = force_generic_plan
as $f$
#variable_conflict use_column
declare
  size int := json_array_length(events);
  into_slot smallint;
  subscribed boolean;
  followed boolean;
  reached int;  -- null: without a stream
begin
  select
    case when s.keep_events is null then 0 else orchestratum.event_slot(append.at) end,
    exists (select from orchestratum.subscription_pattern),
    exists (select from orchestratum.reader)
  into into_slot, subscribed, followed
  from orchestratum.setting s;

  if append.stream is not null then
    if append.expected_version <> 0 then
      update orchestratum.stream s
      set version = s.version + size
      where s.name = append.stream and s.version = append.expected_version
      returning s.version into reached;
    else
      insert into orchestratum.stream as s (name, version)
      values (append.stream, size)
      on conflict (name) do update set version = s.version + size where s.version = coalesce(append.expected_version, s.version)
      returning s.version into reached;
    end if;
    if reached is null then
      return;
    end if;
  end if;

  with appended as (
    insert into orchestratum.event (id, slot, stream, version, topic, data, metadata, appended_at)
    select
      e.id, into_slot, append.stream, reached - size + e.place, e.topic, case when e.null_data then 'null'::json else e.data end,
      e.metadata, append.at
    from rows from (
      json_to_recordset(append.events) as (id uuid, topic text, data json, null_data boolean, metadata json)
    ) with ordinality as e (id, topic, data, null_data, metadata, place)
    returning id, version
  )
  insert into orchestratum.event_inbox (event_id, slot)
  select a.id, into_slot from appended a order by a.version;
  version := coalesce(reached, 0);
  return next;
  if followed then
    return query select null::int, h.queue, h.available_at from orchestratum.reader_hint(append.at) h;
  end if;
  if subscribed then
    return query
    select null::int, d.queue, d.available_at from orchestratum.deliver(append.events, append.stream, reached, append.at) d;
  end if;
end $f$;

-- Append, where these very events may have been appended before (the reply was lost): then it answers the version that they left the
-- stream at, and appends nothing. It looks first, and once more if the append met a conflict or the same ids: the first append may have
-- been open until then. Rows as append answers them.
-- Only the same events, all of them and in their order, are a repeat: where an id stands for anything else, or twice among these, the call
-- is refused (SQLSTATE OR002), or it would answer success for an event that it never wrote.
create function orchestratum.append_again(stream text, expected_version int, events json, at timestamptz default clock_timestamp())
returns table (version int, queue text, available_at text)
language plpgsql volatile
set enable_seqscan = off set enable_bitmapscan = off set jit = off set plan_cache_mode = force_generic_plan
as $f$
#variable_conflict use_column
declare
  size int := json_array_length(events);
  known int;
  reached int;
  stray uuid;
begin
  perform orchestratum.require_read_committed();
  for turn in 1..2 loop
    with given as materialized (
      select g.id, g.place, x.id is not null as is_known, x.version, x.is_same, row_number() over (partition by g.id order by g.place) > 1 as is_twin
      from rows from (
        json_to_recordset(append_again.events) as (id uuid, topic text, data json, null_data boolean)
      ) with ordinality as g (id, topic, data, null_data, place)
      cross join lateral (select case when g.null_data then 'null'::json else g.data end as data) v
      left join lateral (
        select
          e.id, e.version,
          e.stream is not distinct from append_again.stream
            and e.topic = g.topic
            and (e.data::text is not distinct from v.data::text or e.data::jsonb is not distinct from v.data::jsonb) as is_same
        from orchestratum.event e
        where e.id = g.id
        limit 1
      ) x on true
    ),
    found as (
      select count(*) filter (where g.is_known) as known, max(g.version) as last from given g
    )
    select
      found.known, coalesce(found.last, 0),
      (
        select g.id
        from given g
        where g.is_known and (
            found.known < size
            or not g.is_same
            or append_again.stream is not null and g.version <> found.last - size + g.place
          )
          or g.is_twin
        order by g.place
        limit 1
      )
    into known, reached, stray
    from found;
    if stray is not null then
      raise exception 'Cannot append event %: its id stands for another event, or for one that was appended with others', stray
        using errcode = 'OR002', detail = stray::text;
    end if;
    if known > 0 then
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

-- Cancels commands wherever they are. Answers 'cancelled' (it was waiting: ended here and now, no worker needed), 'requested' (a worker
-- holds it and will be told), 'busy' (somebody else has it locked: ask again), 'finished' (too late) or 'unknown'.
-- It waits for no row lock: with a thousand rows in hand, one open transaction would stop the heartbeats of all the others.
-- What nobody holds is leased to the canceller and ended by finish, so that there is one path to every final status.
-- Rows without an id tell what to hint at, as in finish.
-- It is noted as an act where somebody says who did it, or what the commands were found by.
create function orchestratum.cancel(ids json, by_whom text default null, target json default null)
returns table (id text, result text, awaited boolean, queue text, available_at text)
language plpgsql volatile
set enable_seqscan = off set enable_bitmapscan = off set jit = off
set datestyle = 'ISO' set timezone = 'UTC' set lock_timeout = '200ms'
as $f$
#variable_conflict use_column
declare
  at timestamptz := clock_timestamp();
  free json;
  asked uuid[];
begin
  perform orchestratum.require_read_committed();
  with locked as materialized (
    select l.*
    from (select distinct v::uuid as id from json_array_elements_text(cancel.ids) v) asked
    cross join lateral (
      select c.ctid as row, c.leased_by is null or c.available_at <= at as free
      from orchestratum.command c
      where c.id = asked.id
      for update skip locked
    ) l
  ),
  changed as (
    update orchestratum.command c
    set cancel_requested_at = coalesce(c.cancel_requested_at, at),
        fence = c.fence + locked.free::int,
        losses = c.losses + (locked.free and c.leased_by is not null)::int,
        trail = case when locked.free then orchestratum.trail_lost(c, at) else c.trail end,
        leased_by = case when locked.free then 'cancel' else c.leased_by end
    from locked
    where c.ctid = locked.row
    returning c.id, c.fence, locked.free
  )
  select
    coalesce(json_agg(json_build_object('id', x.id, 'fence', x.fence, 'verdict', 'cancelled')) filter (where x.free), '[]'),
    coalesce(array_agg(x.id) filter (where not x.free), '{}')
  into free, asked
  from changed x;

  return query
  with ended as materialized (
    select f.* from orchestratum.finish('cancel', free) f
  ),
  noted as (
    insert into orchestratum.act (at, by_whom, kind, target, affected)
    select
      at, cancel.by_whom, 'cancel', coalesce(cancel.target, json_build_object('ids', to_json(done.ids[1:20]))), cardinality(done.ids)
    from (select asked || array(select ended.id::uuid from ended where ended.result = 'accepted') as ids) done
    where cardinality(done.ids) > 0 and (cancel.by_whom is not null or cancel.target is not null)
  )
  select
    v::text,
    case
      when ended.id is not null then 'cancelled'
      when v::uuid = any (asked) then 'requested'
      when live.id is not null then 'busy'
      when past.id is not null then 'finished'
      else 'unknown'
    end,
    coalesce(ended.awaited, false), null, null
  from (select distinct v::uuid::text as v from json_array_elements_text(cancel.ids) v) ids
  left join ended on ended.id = v and ended.result = 'accepted'
  left join lateral (select c.id from orchestratum.command c where c.id = v::uuid limit 1) live on true
  left join lateral (select h.id from orchestratum.history h where h.id = v::uuid limit 1) past on true
  union all
  select null, 'due', null, ended.queue, ended.available_at from ended where ended.id is null;
end $f$;

-- A reader's checkpoint within a transaction of its handler's own, as its last statement: what the handler wrote there and how far it has
-- come commit together, or neither does. False where the lease is over or not this process's any more: nothing has been changed then.
-- As finish_within: a process that froze between this and its COMMIT would hold the reader's row for ever, and nobody else could go on. So
-- the transaction ends with the lease at the latest, by a timeout of this transaction alone; one that is shorter already stays. It waits for
-- the row: nobody but a heartbeat, or who takes the lease away, ever holds it, and for moments only.
create function orchestratum.checkpoint(
  reader text, generation int, worker text, fence int, event_position bigint, at timestamptz default clock_timestamp()
)
returns boolean
language plpgsql volatile
as $f$
declare
  left_ms bigint;
  idle_ms bigint;
begin
  perform orchestratum.require_read_committed();
  update orchestratum.reader r
  set position = greatest(r.position, checkpoint.event_position),
      checkpoint_at = checkpoint.at,
      failures = 0,
      last_error = null
  where r.name = checkpoint.reader
    and r.generation = checkpoint.generation
    and r.fence = checkpoint.fence
    and r.leased_by = checkpoint.worker
    and r.available_at > checkpoint.at + interval '1 millisecond'
  returning floor(extract(epoch from r.available_at - checkpoint.at) * 1000) into left_ms;
  if not found then
    return false;
  end if;
  select s.setting::bigint into idle_ms from pg_settings s where s.name = 'idle_in_transaction_session_timeout';
  if idle_ms = 0 or idle_ms > left_ms then
    perform set_config('idle_in_transaction_session_timeout', least(left_ms, 2147483647)::text, true);
  end if;
  return true;
end $f$;

-- Leases up to `max_count` due commands to one worker, lane by lane in the order given, up to `max_bytes` of input (at least one).
--
-- lanes: [{"queue", "priority", "mark_at"}]; the mark is where this worker's last claim of the lane ended, and
-- '-infinity' asks for everything. Without it a claim reads all entries that dead rows left in front of the first live one.
-- The outer query has no ORDER BY: a sort would lock `max_count` rows of every lane instead of the first `max_count`.
-- Rows just locked are found again by ctid: a join on id may be planned as a scan of the whole index.
-- `purpose` says what the worker is to do: run the handler, or record an end that is already decided.
-- `abandoned_by` is the worker whose lease ended without a word, the loss that this claim counts; null of nearly all.
-- `lane` is the place in `lanes` that a row came from (1 is the first): with its available_at the worker moves that lane's mark.
-- The last row has no id. Its available_at is the clock that the claim went by, and `more` says whether something due is left: a limit was
-- met, or a second look, which takes no locks, found a row that the first passed over (somebody had it locked, for a moment, or had just
-- changed it). Only a claim with nothing more moves the marks of all lanes, and only then may a
-- worker sleep until something is due; more without any row means: look again in 2, 4, 8 … ms.
-- Only what every execution needs is returned: each column costs (20 columns instead of 6 took 10 to 20 % of the drain).
create function orchestratum.claim(
  worker text, lanes json, max_count int, max_bytes int, lease_ms int, max_losses int default 3,
  at timestamptz default clock_timestamp()
) returns table (
  id text, name text, version smallint, hook text, purpose text, fence int, attempt smallint, max_attempts smallint, losses smallint,
  timeout_ms int, parent_id text, unknown_since text, input text, metadata text, abandoned_by text, lane int, available_at text, more boolean
)
language plpgsql volatile
-- The plan must not depend on statistics: a worker idles on an empty table, caches this plan, and keeps it when a million rows arrive.
-- And it is the first one: otherwise each connection plans its first five calls anew, which costs several times what they do.
set enable_seqscan = off set enable_bitmapscan = off set jit = off set plan_cache_mode = force_generic_plan
set datestyle = 'ISO' set timezone = 'UTC'
as $f$
#variable_conflict use_column
declare
  taken int;
begin
  perform orchestratum.require_read_committed();
  return query
  with lane as materialized (
    select l.queue, l.priority, l.mark_at, l.place
    from (
      select distinct on (l.queue, l.priority) l.*
      from rows from (
        json_to_recordset(claim.lanes) as (queue text, priority smallint, mark_at timestamptz)
      ) with ordinality as l (queue, priority, mark_at, place)
      order by l.queue, l.priority, l.mark_at nulls first
    ) l
    order by l.place
  ),
  held as materialized (
    select due.*, lane.place
    from lane
    cross join lateral (
      select
        c.ctid as row, c.id, c.available_at, c.leased_by, coalesce(octet_length(c.input::text), 0) as bytes,
        case
          when c.cancel_requested_at is not null then 'cancel'
          when c.attempt >= c.max_attempts or c.losses + (c.leased_by is not null)::int >= claim.max_losses then 'exhausted'
          else 'run'
        end as purpose
      from orchestratum.command c
      where c.queue = lane.queue
        and c.priority = lane.priority
        and c.available_at >= coalesce(lane.mark_at, '-infinity')
        and c.available_at <= claim.at
      order by c.available_at
      limit claim.max_count
      for update skip locked
    ) due
    limit claim.max_count
  ),
  fits as materialized (
    select summed.*
    from (select held.*, sum(held.bytes) over (rows unbounded preceding) - held.bytes as before from held) summed
    where summed.before < claim.max_bytes
  ),
  leased as (
    update orchestratum.command c
    set available_at = claim.at + claim.lease_ms * interval '1 millisecond',
        fence = c.fence + 1,
        attempt = c.attempt + 1,
        losses = c.losses + (c.leased_by is not null)::int,
        trail = orchestratum.trail_lost(c, claim.at),
        leased_by = claim.worker,
        started_at = claim.at
    where c.ctid = any (array(select fits.row from fits))
    -- No more than what is answered: the rows are kept until they are joined below.
    returning
      c.id, c.name, c.version, c.hook, c.fence, c.attempt, c.max_attempts, c.losses, c.timeout_ms, c.parent_id, c.unknown_since, c.input, c.metadata
  )
  select
    l.id::text, l.name, l.version, l.hook, f.purpose, l.fence, l.attempt, l.max_attempts, l.losses,
    l.timeout_ms, l.parent_id::text, l.unknown_since::text, l.input::text, l.metadata::text, f.leased_by, f.place::int,
    f.available_at::text, null::boolean
  from leased l
  join fits f on f.id = l.id;
  get diagnostics taken = row_count;

  available_at := claim.at::text;
  more := taken >= claim.max_count or exists (
    select
    from json_to_recordset(claim.lanes) as lane (queue text, priority smallint, mark_at timestamptz)
    cross join lateral (
      select
      from orchestratum.command c
      where c.queue = lane.queue
        and c.priority = lane.priority
        and c.available_at >= coalesce(lane.mark_at, '-infinity')
        and c.available_at <= claim.at
      order by c.available_at
      limit 1
    ) due
  );
  return next;
end $f$;

-- The one place that knows what a pushed command looks like as JSON and what is assumed where it is silent.
-- Wanted is `due_at`, or `delay_ms` from now by this clock, or now. Nothing is ever available before the clock: a row put behind a worker's
-- low-water mark would wait for a rescan.
-- An input that is JSON's null is said as `null_input`: in a row of json_to_recordset it would be no input at all.
-- Each command of a batch is available a microsecond after the one before it: that keeps their order, and lets a mark move within a batch
-- although the index has no id to break ties.
create function orchestratum.command_rows(commands json, at timestamptz)
returns table (
  id uuid, name text, version smallint, hook text, queue text, priority smallint, due_at timestamptz, available_at timestamptz,
  max_attempts smallint, timeout_ms int, awaited boolean, parent_id uuid, input json, metadata json, created_at timestamptz
)
language sql volatile
as $f$
  select
    coalesce(c.id, gen_random_uuid()), c.name, coalesce(c.version, 1::smallint), c.hook,
    coalesce(c.queue, 'default'), coalesce(c.priority, 5::smallint),
    coalesce(c.due_at, at + c.delay_ms * interval '1 millisecond', at),
    greatest(c.due_at, at + c.delay_ms * interval '1 millisecond', at) + (c.place - 1) * interval '1 microsecond',
    coalesce(c.max_attempts, 4::smallint), coalesce(c.timeout_ms, 60000), coalesce(c.awaited, false), c.parent_id,
    case when c.null_input then 'null'::json else c.input end, c.metadata, at
  from rows from (
    json_to_recordset(commands) as (
      id uuid, name text, version smallint, hook text, queue text, priority smallint, due_at timestamptz, delay_ms bigint,
      max_attempts smallint, timeout_ms int, awaited boolean, parent_id uuid, input json, null_input boolean, metadata json
    )
  ) with ordinality as c (
    id, name, version, hook, queue, priority, due_at, delay_ms, max_attempts, timeout_ms, awaited, parent_id, input, null_input, metadata, place
  )
$f$;

-- For outcomes that finish called 'missing': was it this very lease of this very worker that settled the command, in a call whose reply was
-- lost? leases: [{"id", "fence"}]. Answers 'repeated' (it was; nothing to do) or 'lost' (also for a release without an entry in the trail;
-- to believe it lost does no harm). The holder is compared too: after a failover that lost a claim, a fence may have been given again.
-- Entries of a lease that others wrote do not count: it was lost, or give_back handed it back.
create function orchestratum.confirm(worker text, leases json)
returns table (id text, fence int, result text)
language sql stable
set enable_seqscan = off set enable_bitmapscan = off set jit = off set plan_cache_mode = force_generic_plan set lock_timeout = '200ms'
as $f$
  with lease as (
    select r.id, r.fence, jsonb_build_array(jsonb_build_object('fence', r.fence, 'worker', confirm.worker)) as own,
      jsonb_build_array(jsonb_build_object('fence', r.fence, 'code', 'lost')) as taken,
      jsonb_build_array(
        jsonb_build_object('fence', r.fence, 'code', 'released', 'message', 'The reply of its claim was lost')
      ) as given_back
    from json_to_recordset(confirm.leases) as r (id uuid, fence int)
  )
  select
    l.id::text, l.fence,
    case
      when past.fence = l.fence and past.worker = confirm.worker
        or kept.trail @> l.own and not kept.trail @> l.taken and not kept.trail @> l.given_back
      then 'repeated' else 'lost'
    end
  from lease l
  left join lateral (select h.fence, h.worker, h.trail from orchestratum.history h where h.id = l.id limit 1) past on true
  left join lateral (select c.trail from orchestratum.command c where c.id = l.id limit 1) live on true
  cross join lateral (select coalesce(past.trail, live.trail) as trail) kept
$f$;

-- How many live commands there are, by queue, name, status and, where it runs, worker, and since when the oldest of them has been wanted;
-- `hooks`: hook commands, too. It reads the table as a whole, once, and sorts nothing: name, hook and lease are in no index, and by an index a
-- million rows are a million reads of pages. The settings keep it so, whatever the statistics say of a table that was empty a moment ago.
create function orchestratum.count_live(hooks boolean, at timestamptz default clock_timestamp())
returns table (queue text, name text, status text, worker text, count bigint, oldest_due_at timestamptz)
language sql stable
set enable_indexscan = off set enable_indexonlyscan = off set enable_bitmapscan = off set enable_sort = off set jit = off
set datestyle = 'ISO' set timezone = 'UTC'
as $f$
  select
    l.queue, l.name, case when l.is_due then 'pending' when l.worker is null then 'scheduled' else 'running' end, l.worker, l.count,
    l.oldest_due_at
  from (
    select
      c.queue, c.name, c.available_at <= count_live.at as is_due, case when c.available_at > count_live.at then c.leased_by end as worker,
      count(*) as count, min(c.due_at) as oldest_due_at
    from orchestratum.command c
    where count_live.hooks or c.hook is null
    group by 1, 2, 3, 4
  ) l
$f$;

-- Pushes one command for each of these events and each subscription that has a pattern for its topic: a delivery.
--
-- events: [{"id", "topic", "data" (or "null_data"), "metadata", "parent_id"}], and where they are not appended just now "stream", "version" and
-- "appended_at", and "is_large" where its data was left out for that; version: of the last of those that are. A delivery has a copy of an event of up to 8 KiB, else its id.
-- only_to: one subscription. repeat: some may have been delivered before; what has finished meanwhile is taken out after the insert, as in
-- push_batch. Answers what to hint at: the queue, and from when.
-- Patterns are looked up once a topic, in subqueries that cannot be pulled up: no plan reads all subscriptions.
-- In the order of their ids, so that two batches with the same deliveries wait for each other in one direction only.
create function orchestratum.deliver(
  events json, stream text, version int, at timestamptz, only_to text default null, repeat boolean default false
)
returns table (queue text, available_at text)
language plpgsql volatile
set enable_seqscan = off set enable_bitmapscan = off set jit = off set plan_cache_mode = force_generic_plan
set datestyle = 'ISO' set timezone = 'UTC'
as $f$
#variable_conflict use_column
declare
  size int := json_array_length(events);
  fresh uuid[];
  dues json;
begin
  with asked as materialized (
    select e.*
    from rows from (
      json_to_recordset(deliver.events) as (
        id uuid, topic text, data json, null_data boolean, metadata json, parent_id uuid, stream text, version int, appended_at timestamptz,
        is_large boolean
      )
    ) with ordinality as e (id, topic, data, null_data, metadata, parent_id, stream, version, appended_at, is_large, place)
  ),
  found as (
    select distinct topic.topic, x.subscription
    from (select distinct asked.topic from asked) topic
    cross join lateral orchestratum.topic_patterns(topic.topic) p (pattern)
    cross join lateral (
      select s.subscription
      from orchestratum.subscription_pattern s
      where s.pattern = p.pattern
      offset 0
    ) x
    where deliver.only_to is null or x.subscription = deliver.only_to
  ),
  matched as materialized (
    select found.topic, s.*
    from found
    cross join lateral (
      select s.name, s.queue, s.priority, s.max_attempts, s.timeout_ms from orchestratum.subscription s where s.name = found.subscription limit 1
    ) s
  ),
  carried as materialized (
    select
      a.id, a.topic, a.place, a.parent_id, orchestratum.hook_metadata(a.metadata, a.id) as metadata,
      case
        when a.is_large or coalesce(octet_length(a.data::text), 0) + coalesce(octet_length(a.metadata::text), 0) > 8192
        then json_build_object('id', a.id, 'topic', a.topic, 'stored', true)
        -- As text: what there is not is left out, and json_strip_nulls would reach into the data.
        else (
          '{"id":"' || a.id || '","topic":' || to_json(a.topic)
          || coalesce(
            ',"stream":' || to_json(coalesce(a.stream, deliver.stream)) || ',"version":' || coalesce(a.version, deliver.version - size + a.place), ''
          )
          || coalesce(',"data":' || case when a.null_data then 'null' else a.data::text end, '')
          || coalesce(',"metadata":' || a.metadata, '')
          || ',"appended_at":' || to_json(coalesce(a.appended_at, deliver.at)) || '}'
        )::json
      end as input
    from asked a
    where a.topic in (select matched.topic from matched)
  ),
  pushed as (
    insert into orchestratum.command (
      id, name, version, queue, priority, due_at, available_at, max_attempts, timeout_ms, parent_id, input, metadata, created_at
    )
    select
      d.id, d.name, 1, d.queue, d.priority, deliver.at, deliver.at + (d.place - 1) * interval '1 microsecond', d.max_attempts, d.timeout_ms,
      d.parent_id, d.input, d.metadata, deliver.at
    from (
      select
        orchestratum.delivery_id(c.id, m.name) as id, 'deliver:' || m.name as name, m.queue, m.priority, m.max_attempts, m.timeout_ms,
        c.parent_id, c.input, c.metadata, row_number() over (order by c.place, m.name) as place
      from carried c
      join matched m on m.topic = c.topic
    ) d
    order by d.id
    on conflict (id) do nothing
    returning command.id, command.queue, command.available_at
  )
  select
    (select array_agg(pushed.id) from pushed where deliver.repeat),
    (
      select json_agg(due)
      from (select pushed.queue, min(pushed.available_at) as available_at from pushed group by pushed.queue) due
    )
  into fresh, dues;

  if deliver.repeat then
    delete from orchestratum.command c
    where c.id = any (array(
      select f.id
      from unnest(fresh) f (id)
      cross join lateral (select from orchestratum.history h where h.id = f.id limit 1) past
    ));
  end if;
  return query select d.queue, d.available_at::text from json_to_recordset(dues) as d (queue text, available_at timestamptz);
end $f$;

-- The id of the command by which a subscription gets an event: always the same, so that filling up from the past meets the live ones.
-- It begins as the event's does (48 bits, of a UUIDv7 its time), which keeps indexes together; the rest is a hash of both.
-- One expression without a from clause, which the planner writes into its caller: 3 us a delivery instead of 11.
create function orchestratum.delivery_id(event_id uuid, subscription text)
returns uuid
language sql stable
as $f$
  select (
    left(replace(event_id::text, '-', ''), 12) || '8'
    || overlay(left(encode(sha256(convert_to(event_id::text || ' ' || subscription, 'UTF8')), 'hex'), 18) placing '8' from 4 for 0)
  )::uuid
$f$;

-- Takes dead letters out of history: commands that ended failed, timed out or not found, with all that is known of them. ids: ["…"].
-- Answers 'dropped', 'unfinished' (it lives, retried perhaps), 'kept' (it ended otherwise), 'busy' (somebody else has it locked: ask again) or
-- 'unknown'. Waits for no row lock. Noted as an act. History is partitioned, so a row is found again by its place and its partition.
create function orchestratum.drop_dead_letters(
  ids json, by_whom text default null, target json default null, at timestamptz default clock_timestamp()
)
returns table (id text, result text)
language plpgsql volatile
set enable_seqscan = off set enable_bitmapscan = off set jit = off set lock_timeout = '200ms'
as $f$
#variable_conflict use_column
declare
  dropped uuid[];
begin
  perform orchestratum.require_read_committed();
  with locked as materialized (
    select l.*
    from (select distinct v::uuid as id from json_array_elements_text(drop_dead_letters.ids) v) asked
    cross join lateral (
      select h.tableoid as part, h.ctid as row
      from orchestratum.history h
      where h.id = asked.id and h.status in ('failed', 'timed_out', 'not_found')
      for update skip locked
    ) l
  ),
  gone as (
    delete from orchestratum.history h
    using locked
    where h.ctid = locked.row and h.tableoid = locked.part
    returning h.id
  )
  select coalesce(array_agg(g.id), '{}') into dropped from gone g;
  perform orchestratum.record_act(drop_dead_letters.at, drop_dead_letters.by_whom, 'drop', drop_dead_letters.target, dropped);

  return query
  select
    asked.id::text,
    case
      when asked.id = any (dropped) then 'dropped'
      when live.id is not null then 'unfinished'
      when past.status in ('failed', 'timed_out', 'not_found') then 'busy'
      when past.status is not null then 'kept'
      else 'unknown'
    end
  from (select distinct v::uuid as id from json_array_elements_text(drop_dead_letters.ids) v) asked
  left join lateral (select c.id from orchestratum.command c where c.id = asked.id limit 1) live on true
  left join lateral (select h.status from orchestratum.history h where h.id = asked.id limit 1) past on true;
end $f$;

-- These commands, and what stands in history that tells the same: their hook commands, the deliveries of the events that they or their hooks
-- published, and the hook commands of those. `root` is the command asked for. What a subscriber published in its turn is not among them.
create function orchestratum.erasable(ids uuid[])
returns table (root uuid, id uuid, is_delivery boolean, erased_at timestamptz)
language sql stable
set enable_seqscan = off set enable_bitmapscan = off set jit = off
as $f$
  with recursive found as (
    select asked.id as root, asked.id, false as is_delivery, null::timestamptz as erased_at
    from unnest(erasable.ids) asked (id)
    union
    select found.root, child.id, found.is_delivery or child.hook is null, child.erased_at
    from found
    cross join lateral (
      select h.id, h.hook, h.erased_at
      from orchestratum.history h
      where h.parent_id = found.id and (h.hook is not null or not found.is_delivery and starts_with(h.name, 'deliver:'))
      offset 0
    ) child
  )
  select found.root, found.id, found.is_delivery, found.erased_at
  from found
$f$;

-- Takes a person's data out of finished commands and of what erasable() finds with them, hook commands and deliveries: input, output, what
-- the trail quotes, and all metadata but what ties a chain together. Ids, names, times, statuses and codes stay: that it happened remains.
-- Events stay, too: they are facts, and what is built from them must not change. ids: ["…"].
-- Answers 'erased', 'waiting' or 'running' (it, or one of those, is not finished: that needs its data, and is left alone), 'busy' (locked by
-- somebody: ask again) or 'unknown'. Only 'erased' says that no command has it any more; whatever had finished is erased in any case.
-- What lives of them is found by reading all live commands once a call: an index on their parents would cost every push.
create function orchestratum.erase(ids json, by_whom text default null, at timestamptz default clock_timestamp())
returns table (id text, result text)
language plpgsql volatile
set enable_seqscan = off set enable_bitmapscan = off set jit = off
set datestyle = 'ISO' set timezone = 'UTC' set lock_timeout = '200ms'
as $f$
#variable_conflict use_column
declare
  erased uuid[];
  wanted uuid[] := array(select distinct v::uuid from json_array_elements_text(erase.ids) v);
begin
  perform orchestratum.require_read_committed();
  with locked as materialized (
    select l.*
    from (select distinct e.id from orchestratum.erasable(wanted) e where e.erased_at is null) one
    cross join lateral (
      select h.tableoid as part, h.ctid as row from orchestratum.history h where h.id = one.id for update skip locked
    ) l
  ),
  written as (
    update orchestratum.history h
    set input = null,
        output = null,
        erased_at = erase.at,
        metadata = orchestratum.erased_metadata(h.metadata),
        trail = (
          select jsonb_agg(jsonb_build_object(
            'code', entry.value -> 'code', 'message', '(erased)', 'fence', entry.value -> 'fence', 'attempt', entry.value -> 'attempt',
            'worker', entry.value -> 'worker', 'started_at', entry.value -> 'started_at', 'ended_at', entry.value -> 'ended_at'
          ) order by entry.place)
          from jsonb_array_elements(h.trail) with ordinality as entry (value, place)
        )
    from locked
    where h.ctid = locked.row and h.tableoid = locked.part
    returning h.id
  )
  select coalesce(array_agg(w.id), '{}') into erased from written w;
  perform orchestratum.record_act(
    erase.at, erase.by_whom, 'erase', null, array(select unnest(wanted) intersect select unnest(erased)));

  return query
  with known as materialized (
    select e.root, e.id, e.is_delivery, e.erased_at
    from orchestratum.erasable(wanted) e
  ),
  child as materialized (
    select c.parent_id, c.hook, c.leased_by is not null and c.available_at > at as leased
    from orchestratum.command c
    where (c.hook is not null or starts_with(c.name, 'deliver:')) and c.parent_id in (select known.id from known)
  )
  select
    asked.id::text,
    case
      when live.leased then 'running'
      when live.id is not null then 'waiting'
      when past.id is null then 'unknown'
      when past.erased_at is not null and others.left is null then 'erased'
      else 'busy'
    end
  from unnest(wanted) asked (id)
  left join (
    select live.root as id, bool_or(live.leased) as leased
    from (
      select one.id as root, one.leased
      from unnest(wanted) asked (id)
      cross join lateral (
        select c.id, c.leased_by is not null and c.available_at > at as leased from orchestratum.command c where c.id = asked.id limit 1
      ) one
      union all
      select known.root, child.leased
      from child
      join known on known.id = child.parent_id
      where child.hook is not null or not known.is_delivery
    ) live
    group by live.root
  ) live on live.id = asked.id
  left join lateral (select h.id, h.erased_at from orchestratum.history h where h.id = asked.id limit 1) past on true
  left join (
    select known.root, count(*) as left
    from known
    where known.id <> known.root and known.erased_at is null
    group by known.root
  ) others on others.root = asked.id;
end $f$;

-- Of metadata what ties a chain together and its source: whatever else is in it may be about a person. What cannot be read so (only SQL could have written it) goes altogether.
create function orchestratum.erased_metadata(metadata json)
returns json
language plpgsql immutable
as $f$
begin
  return (
    select jsonb_object_agg(kept.key, kept.value)::json
    from jsonb_each(metadata::jsonb) kept
    where kept.key in ('correlationId', 'causationId', 'source', 'issuedAt', 'traceparent', 'tracestate')
  );
exception when others then
  return null;
end $f$;

-- The deliveries of an event: of each subscription that there is or was, the command by which it got it, where there is one. Found by the id
-- that follows from both, so that it does not matter what the subscription's patterns are by now.
create function orchestratum.event_deliveries(event_id uuid, at timestamptz default clock_timestamp())
returns table (
  subscription text, id text, status text, attempt smallint, max_attempts smallint, finished_at text, trail text
)
language sql stable
set enable_seqscan = off set enable_bitmapscan = off set jit = off set datestyle = 'ISO' set timezone = 'UTC'
as $f$
  select s.name, one.id::text, one.status, one.attempt, one.max_attempts, one.finished_at::text, (one.trail -> -1)::text
  from orchestratum.subscription s
  cross join lateral (select orchestratum.delivery_id(event_deliveries.event_id, s.name) as id) wanted
  cross join lateral (
    select *
    from (
      select *
      from (
        select
          c.id, case when c.available_at <= event_deliveries.at then 'pending' when c.leased_by is null then 'scheduled' else 'running' end as status,
          least(c.attempt, c.max_attempts) as attempt, c.max_attempts, null::timestamptz as finished_at, c.trail
        from orchestratum.command c
        where c.id = wanted.id
        limit 1
      ) live
      union all
      select *
      from (
        select h.id, h.status, h.attempt, h.max_attempts, h.finished_at, h.trail
        from orchestratum.history h
        where h.id = wanted.id
        limit 1
      ) past
    ) either
    limit 1
  ) one
  order by s.name
$f$;

-- What to hint at where events may have been delivered before by a call whose reply was lost, and so was its hint: every queue that has
-- deliveries of their topics, and readers. Who is woken in vain looks, and finds nothing.
create function orchestratum.event_hint(events json, at timestamptz)
returns table (queue text, available_at text)
language sql stable
set enable_seqscan = off set enable_bitmapscan = off set jit = off set datestyle = 'ISO' set timezone = 'UTC'
as $f$
  select distinct s.queue, event_hint.at::text
  from (select distinct e.topic from json_to_recordset(event_hint.events) as e (topic text)) asked
  cross join lateral orchestratum.topic_patterns(asked.topic) p (pattern)
  cross join lateral (
    select x.subscription
    from orchestratum.subscription_pattern x
    where x.pattern = p.pattern
    offset 0
  ) matched
  cross join lateral (select y.queue from orchestratum.subscription y where y.name = matched.subscription limit 1) s
  union all
  select h.queue, h.available_at from orchestratum.reader_hint(event_hint.at) h
$f$;

-- The slot that an event appended at `at` goes to: 0, which is kept for ever, where no retention is set; else one of the ring, 1 to 16, which
-- turns once in 16/14 of what is kept.
create function orchestratum.event_slot(at timestamptz)
returns smallint
language sql stable
as $f$
  select coalesce(1 + floor(extract(epoch from at) / extract(epoch from s.keep_events) * 14)::bigint % 16, 0)::smallint
  from orchestratum.setting s
$f$;

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

-- Empties at most one slot whose newest row is past its retention, and answers which (null: none). Called by a duty, again while it answers.
-- Locks first and looks then, each in a statement of its own: a finish that was still open when the slot was looked at may have put a row
-- there. A slot whose lock is not had within 50 ms is left for later: readers of history must not make every finish wait, nor keep the other
-- slots. It runs with its owner's rights, so nobody may call it but who is granted to, and a clock of the caller's cannot empty what is kept.
create function orchestratum.expire_history(at timestamptz default clock_timestamp())
returns int
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp set lock_timeout = '50ms'
as $f$
declare
  kept interval;
  newest timestamptz;
begin
  perform orchestratum.require_read_committed();
  for slot in 0..31 loop
    select case when slot < 16 then s.keep_succeeded else s.keep_other end into kept from orchestratum.setting s;
    execute format('select max(finished_at) from orchestratum.history_%s', slot) into newest;
    if newest < least(at, clock_timestamp()) - kept then
      begin
        execute format('lock table orchestratum.history_%s in access exclusive mode', slot);
      exception when lock_not_available then
        continue;
      end;
      execute format('select max(finished_at) from orchestratum.history_%s', slot) into newest;
      if newest < least(at, clock_timestamp()) - kept then
        execute format('truncate orchestratum.history_%s', slot);
        return slot;
      end if;
    end if;
  end loop;
  return null;
end $f$;
revoke execute on function orchestratum.expire_history from public;

-- What decides on whether a command runs: its row, its queue, who serves that, who has a handler, who holds it, and how many come first.
-- No row where there is no such command. Times are ms since 1970. src/explain.ts makes the one sentence of it.
-- `ahead` is counted along command_claim, up to `max_ahead`, in the lanes that a claim reads before it: what has a better priority, and of its
-- own what was available before. A worker counts as there as all_workers says it; a handler as known for as long as workers go by
-- (three minutes), or twice the longest silence that a worker of its queue may keep. `handler_queues`: what handled_elsewhere() answers.
create function orchestratum.explain(id uuid, max_ahead int default 10000, at timestamptz default clock_timestamp())
returns table (
  name text, version smallint, queue text, status text, worker text, attempt smallint, max_attempts smallint, losses smallint,
  at_ms double precision, available_ms double precision, started_ms double precision, finished_ms double precision,
  cancel_requested_ms double precision, unknown_since_ms double precision, fence int, last_entry text,
  queue_paused_ms double precision, queue_paused_by text, name_paused_ms double precision, name_paused_by text,
  serving int, last_served_by text, last_served_ms double precision,
  handler_known boolean, handler_seen_ms double precision, handler_versions text,
  worker_status text, worker_seen_ms double precision, ahead int, handler_queues text
)
language sql stable
set enable_seqscan = off set enable_bitmapscan = off set jit = off set datestyle = 'ISO' set timezone = 'UTC'
as $f$
  with one as materialized (
    select *
    from (
      select *
      from (
        select
          c.name, c.version, c.queue, c.priority,
          case when c.available_at <= explain.at then 'pending' when c.leased_by is null then 'scheduled' else 'running' end as status,
          c.leased_by as worker, least(c.attempt, c.max_attempts) as attempt, c.max_attempts, c.losses, c.available_at, c.started_at,
          null::timestamptz as finished_at, c.cancel_requested_at, c.unknown_since, c.fence, c.trail
        from orchestratum.command c
        where c.id = explain.id
        limit 1
      ) live
      union all
      select *
      from (
        select
          h.name, h.version, h.queue, h.priority, h.status, h.worker, h.attempt, h.max_attempts, h.losses,
          null::timestamptz, h.started_at, h.finished_at, h.cancel_requested_at, null::timestamptz, h.fence, h.trail
        from orchestratum.history h
        where h.id = explain.id
        limit 1
      ) past
    ) either
    limit 1
  ),
  serving as materialized (
    select
      w.id, w.last_seen_at, w.lost_after_ms,
      w.stopped_at is null and w.last_seen_at >= explain.at - w.lost_after_ms * interval '1 millisecond' as is_there
    from orchestratum.worker w
    cross join one
    where one.queue = any (w.queues)
  ),
  known as (
    select
      bool_or(
        (h.version = one.version or h.upgrades and h.version > one.version)
        and h.seen_at >= explain.at - greatest(
          interval '3 minutes',
          2 * (select max(s.lost_after_ms) from serving s where s.is_there) * interval '1 millisecond'
        )
      ) as is_known,
      max(h.seen_at) filter (where h.version = one.version or h.upgrades and h.version > one.version) as seen_at,
      json_agg(h.version order by h.version) as versions
    from one
    cross join lateral (
      select k.version, k.upgrades, k.seen_at from orchestratum.handler k where k.name = one.name
    ) h
  )
  select
    one.name, one.version, one.queue, one.status, one.worker, one.attempt, one.max_attempts, one.losses,
    (extract(epoch from explain.at) * 1000)::float8,
    case when one.available_at < 'infinity' then (extract(epoch from one.available_at) * 1000)::float8 end,
    (extract(epoch from one.started_at) * 1000)::float8,
    (extract(epoch from one.finished_at) * 1000)::float8,
    (extract(epoch from one.cancel_requested_at) * 1000)::float8,
    (extract(epoch from one.unknown_since) * 1000)::float8,
    one.fence, (one.trail -> -1)::text,
    (extract(epoch from paused.paused_at) * 1000)::float8, paused.paused_by,
    (extract(epoch from stopped.paused_at) * 1000)::float8, stopped.paused_by,
    (select count(*)::int from serving s where s.is_there),
    last_served.id, (extract(epoch from last_served.last_seen_at) * 1000)::float8,
    coalesce(known.is_known, false), (extract(epoch from known.seen_at) * 1000)::float8, known.versions::text,
    case
      when held_by.id is null then null
      when held_by.stopped_at is not null then 'stopped'
      when held_by.last_seen_at < explain.at - held_by.lost_after_ms * interval '1 millisecond' then 'lost'
      else 'running'
    end,
    (extract(epoch from held_by.last_seen_at) * 1000)::float8,
    (
      select count(*)::int
      from (
        select
        from generate_series(0, one.priority) p (priority)
        cross join lateral (
          select
          from orchestratum.command c
          where c.queue = one.queue
            and c.priority = p.priority
            and c.available_at <= explain.at
            and (p.priority < one.priority or c.available_at < one.available_at)
          order by c.available_at
          limit explain.max_ahead
        ) due
        where one.status = 'pending'
        limit explain.max_ahead
      ) first
    ),
    case when one.finished_at is null then orchestratum.handled_elsewhere(one.queue, one.name, one.version, explain.at)::text end
  from one
  left join known on true
  left join lateral (select k.paused_at, k.paused_by from orchestratum.paused_queue k where k.queue = one.queue) paused on true
  left join lateral (select k.paused_at, k.paused_by from orchestratum.paused_name k where k.name = one.name) stopped on true
  left join lateral (select s.id, s.last_seen_at from serving s order by s.last_seen_at desc limit 1) last_served on true
  left join lateral (
    select w.id, w.stopped_at, w.last_seen_at, w.lost_after_ms from orchestratum.worker w where w.id = one.worker limit 1
  ) held_by on true
$f$;

-- Delivers to one subscription what is in the log after a position, up to `until`, at most `max_count` events of it. Answers the position that
-- it came to, and in rows without one what to hint at. Can be repeated, and meets live deliveries: their ids are the same.
-- Only events that it has a pattern for go into the one JSON text, and large ones without their data, of which a delivery has no copy
-- either: 500 events of the log are not more than a few MB of it. Patterns are looked up once a topic.
create function orchestratum.fill_subscription(
  subscription text, after bigint, until bigint, max_count int, at timestamptz default clock_timestamp()
)
returns table (reached text, queue text, available_at text)
language plpgsql volatile
set enable_seqscan = off set enable_bitmapscan = off set enable_sort = off set jit = off
as $f$
#variable_conflict use_column
declare
  last bigint;
  events json;
begin
  perform orchestratum.require_read_committed();
  with place as materialized (
    select p.position, p.event_id
    from orchestratum.event_position p
    where p.position > fill_subscription.after and p.position <= fill_subscription.until
    order by p.position
    limit fill_subscription.max_count
  ),
  found as materialized (
    select place.position, e.*
    from place
    cross join lateral (
      select x.id, x.topic, x.stream, x.version, x.data, x.metadata, x.appended_at
      from orchestratum.event x
      where x.id = place.event_id
      limit 1
    ) e
  ),
  wanted as materialized (
    select topic.topic
    from (select distinct found.topic from found) topic
    where exists (
      select
      from orchestratum.topic_patterns(topic.topic) p (pattern)
      cross join lateral (
        select s.subscription
        from orchestratum.subscription_pattern s
        where s.pattern = p.pattern and s.subscription = fill_subscription.subscription
        limit 1
      ) one
    )
  ),
  chosen as materialized (
    select found.*, coalesce(octet_length(found.data::text), 0) + coalesce(octet_length(found.metadata::text), 0) > 8192 as is_large
    from found
    where found.topic in (select wanted.topic from wanted)
  )
  select
    (select max(place.position) from place),
    (
      select json_agg(json_build_object(
        'id', c.id, 'topic', c.topic, 'stream', c.stream, 'version', c.version, 'data', case when not c.is_large then c.data end,
        'null_data', c.data::text = 'null', 'is_large', c.is_large, 'metadata', c.metadata, 'appended_at', c.appended_at
      ) order by c.position)
      from chosen c
    )
  into last, events;
  return query select coalesce(last, fill_subscription.until)::text, null::text, null::text;
  if events is not null then
    return query
    select null::text, d.queue, d.available_at
    from orchestratum.deliver(events, null, null, fill_subscription.at, fill_subscription.subscription, true) d;
  end if;
end $f$;

-- Records how attempts ended, in one batch, together with everything that follows from them.
--
-- outcomes: [{"id", "fence", "verdict", "output" (or "null_output"), "error": {…}, "delay_ms", "until", "follow_ups": [pushed commands]}]. A verdict is a
-- final status, or one of 'retry' (attempt used), 'snooze', 'release' and 'unknown' (attempt handed back). `error` is what the trail keeps of
-- this lease. A follow-up's id is the library's own, never a user's: a twin in somebody's open transaction would make the batch wait for it.
-- It never waits for a row lock: a row that somebody else has locked comes back as 'busy' and goes into the next batch.
-- 'missing' means that this lease has no say any more: confirm() tells whether it was itself the one that settled it.
-- Once cancellation was requested, any end but success is 'cancelled'; decided here, on the locked row.
-- An end other than success pushes the parent's hook as a command of its own, where table handler knows of one; its input is not parsed
-- again, or an input that somebody wrote into the table by hand could keep its command from ever ending.
-- A row is looked up by id in a lateral subquery that cannot be pulled up, and found again by ctid and nothing else: a join on the id, or
-- an exists, may be planned as a scan of the whole index, and stay so.
-- History is inserted into without "on conflict": that wrote and confirmed each row speculatively, a sixth of the statement. Nothing leaves
-- an id in both tables; where somebody's hand did, the unique index refuses that one outcome, and it becomes a failed attempt.
-- One batch may name a command twice, under two fences (a worker that lost a lease and claimed it again): everything joins on both.
-- Rows without an id tell what to hint at: a queue, and from when something is due there that was not before.
create function orchestratum.finish(worker text, outcomes json, at timestamptz default clock_timestamp())
returns table (id text, fence int, result text, awaited boolean, queue text, available_at text)
language plpgsql volatile
set enable_seqscan = off set enable_bitmapscan = off set jit = off set plan_cache_mode = force_generic_plan
set datestyle = 'ISO' set timezone = 'UTC' set lock_timeout = '200ms'
as $f$
#variable_conflict use_column
declare
  succeeded_slot smallint := orchestratum.history_slot(at, true);
  other_slot smallint := orchestratum.history_slot(at, false);
begin
  perform orchestratum.require_read_committed();
  return query
  with reported as materialized (
    select distinct on (r.id, r.fence) r.*
    from json_to_recordset(finish.outcomes) as r (
      id uuid, fence int, verdict text, output json, null_output boolean, error jsonb, delay_ms bigint, until timestamptz, follow_ups json
    )
  ),
  held as materialized (
    select
      r.id, r.fence, r.verdict,
      case when r.null_output then 'null'::json else r.output end as output, r.error, r.delay_ms, r.until, r.follow_ups, l.row, seen.id is not null as seen,
      case
        when l.cancel_requested and r.verdict <> 'succeeded' then 'cancelled'
        when r.verdict in ('retry', 'snooze', 'release', 'unknown') then null
        else r.verdict
      end as status
    from reported r
    left join lateral (
      select c.ctid as row, c.cancel_requested_at is not null as cancel_requested
      from orchestratum.command c
      where c.id = r.id and c.fence = r.fence and c.leased_by = finish.worker
      for update skip locked
    ) l on true
    -- Only what could not be locked is looked for without: for all the others that would be a second probe of the index.
    left join lateral (
      select c.id
      from orchestratum.command c
      where l.row is null and c.id = r.id and c.fence = r.fence and c.leased_by = finish.worker
      limit 1
    ) seen on true
  ),
  settled as (
    delete from orchestratum.command c
    using held h
    where c.ctid = h.row and h.status is not null
    returning c.*, h.output, h.error, h.follow_ups, h.status
  ),
  recorded as (
    insert into orchestratum.history (
      slot, id, name, version, hook, queue, priority, status, due_at, fence, attempt, max_attempts, losses, timeout_ms, worker,
      started_at, finished_at, cancel_requested_at, parent_id, input, output, metadata, trail, created_at
    )
    select
      case when s.status = 'succeeded' then succeeded_slot else other_slot end,
      s.id, s.name, s.version, s.hook, s.queue, s.priority, s.status, s.due_at, s.fence,
      least(s.attempt, s.max_attempts), s.max_attempts, s.losses, s.timeout_ms, s.leased_by, s.started_at, finish.at, s.cancel_requested_at,
      s.parent_id, s.input, s.output, s.metadata,
      case
        when s.error is null then s.trail
        else orchestratum.trail_add(s.trail, s.error || jsonb_build_object(
          'fence', s.fence, 'attempt', s.attempt, 'worker', finish.worker, 'started_at', s.started_at, 'ended_at', finish.at))
      end,
      s.created_at
    from settled s
  ),
  returned as (
    update orchestratum.command c
    set available_at = greatest(h.until, finish.at + greatest(h.delay_ms, 0) * interval '1 millisecond'),
        attempt = c.attempt - (h.verdict <> 'retry')::int,
        unknown_since = case h.verdict when 'unknown' then coalesce(c.unknown_since, finish.at) when 'release' then c.unknown_since end,
        trail = case
          when h.error is null then c.trail
          else orchestratum.trail_add(c.trail, h.error || jsonb_build_object(
            'fence', h.fence, 'attempt', c.attempt, 'worker', finish.worker, 'started_at', c.started_at, 'ended_at', finish.at))
        end,
        leased_by = null
    from held h
    where c.ctid = h.row and h.status is null
    returning c.id, c.fence, c.queue, c.available_at
  ),
  following as (
    select s.follow_ups as commands
    from settled s
    where s.follow_ups is not null
  ),
  followed as (
    insert into orchestratum.command (
      id, name, version, hook, queue, priority, due_at, available_at, max_attempts, timeout_ms, awaited, parent_id, input, metadata, created_at
    )
    select
      r.id, r.name, r.version, r.hook, r.queue, r.priority, r.due_at, r.available_at, r.max_attempts, r.timeout_ms, r.awaited, r.parent_id,
      r.input, r.metadata, r.created_at
    from following
    cross join lateral orchestratum.command_rows(following.commands, finish.at) r
    union all
    select
      gen_random_uuid(), s.name, s.version, hook.name, s.queue, s.priority, finish.at, finish.at, 4, s.timeout_ms, false, s.id,
      hook.input, orchestratum.hook_metadata(s.metadata, s.id), finish.at
    from settled s
    cross join lateral (
      select
        case when s.status = 'cancelled' then 'cancellation' else 'failure' end as name,
        case
          when s.input is null then json_build_object('status', s.status, 'error', s.error)
          else json_build_object('input', s.input, 'status', s.status, 'error', s.error)
        end as input
    ) hook
    where s.status <> 'succeeded'
      and s.hook is null
      and exists (select from orchestratum.handler h where h.name = s.name and hook.name = any (h.hooks))
    on conflict (id) do nothing
    returning command.queue, command.available_at
  ),
  due as (
    select followed.queue, followed.available_at from followed union all select returned.queue, returned.available_at from returned
  )
  select
    h.id::text, h.fence,
    case when s.id is not null or a.id is not null then 'accepted'
      -- Locked, and yet not written: it changed after this statement's snapshot (somebody began to wait for it).
      when h.row is not null or h.seen then 'busy'
      else 'missing'
    end,
    coalesce(s.awaited, false), null, null
  from held h
  left join settled s on s.id = h.id and s.fence = h.fence
  left join returned a on a.id = h.id and a.fence = h.fence
  union all
  select null, null, 'due', null, due.queue, min(due.available_at)::text from due group by due.queue;
end $f$;

-- finish(), for a batch in which outcomes publish events: those of the accepted ones commit with them, to no stream, with their deliveries.
-- An outcome's "events" are as append takes them; only a success has any. Rows as finish answers them.
-- A function of its own, so that a finish without events is what it was: no statement more, and no wider record.
-- An event's id is the library's own, as a follow-up's is: a twin in somebody's open transaction would make the batch wait for it.
create function orchestratum.finish_publishing(worker text, outcomes json, at timestamptz default clock_timestamp())
returns table (id text, fence int, result text, awaited boolean, queue text, available_at text)
language plpgsql volatile
set enable_seqscan = off set enable_bitmapscan = off set jit = off set lock_timeout = '200ms'
as $f$
#variable_conflict use_column
declare
  accepted text[] := '{}';
  published json;
begin
  for id, fence, result, awaited, queue, available_at in
    select f.id, f.fence, f.result, f.awaited, f.queue, f.available_at
    from orchestratum.finish(finish_publishing.worker, finish_publishing.outcomes, finish_publishing.at) f
  loop
    if result = 'accepted' then
      accepted := accepted || (id || ' ' || fence);
    end if;
    return next;
  end loop;

  select json_agg(e.value) into published
  from (
    select distinct on (r.id, r.fence) r.id, r.fence, r.events
    from json_to_recordset(finish_publishing.outcomes) as r (id uuid, fence int, verdict text, events json)
    where r.events is not null and r.verdict = 'succeeded'
  ) r
  cross join lateral json_array_elements(r.events) e
  where r.id || ' ' || r.fence = any (accepted);
  if published is not null then
    return query
    select null::text, null::int, 'due', null::boolean, a.queue, a.available_at
    from orchestratum.append(null, null, published, finish_publishing.at) a
    where a.version is null;
  end if;
end $f$;

-- finish() within a transaction of the handler's own, as its last statement: what the handler wrote there, the outcome and what follows
-- from it commit together, or none of them. outcomes: as finish takes them, and one of them only.
-- A process that froze between this and its COMMIT would hold the command's row for ever, and nobody else could have the command. So the
-- transaction ends with the lease at the latest, by a timeout of this transaction alone; one that is shorter already stays.
-- Without a row the lease is over or not this worker's any more. transaction_id: by which the library sees the commit, and hints then.
create function orchestratum.finish_within(worker text, outcomes json, at timestamptz default clock_timestamp())
returns table (id text, fence int, result text, awaited boolean, queue text, available_at text, transaction_id text)
language plpgsql volatile
set enable_seqscan = off set enable_bitmapscan = off set jit = off
as $f$
#variable_conflict use_column
declare
  left_ms bigint;
  idle_ms bigint;
begin
  perform orchestratum.require_read_committed();
  select floor(extract(epoch from c.available_at - finish_within.at) * 1000) into left_ms
  from json_to_recordset(finish_within.outcomes) as r (id uuid, fence int)
  cross join lateral (
    select l.available_at
    from orchestratum.command l
    where l.id = r.id and l.fence = r.fence and l.leased_by = finish_within.worker
    limit 1
  ) c;
  if left_ms is null or left_ms < 1 then
    return;
  end if;
  select s.setting::bigint into idle_ms from pg_settings s where s.name = 'idle_in_transaction_session_timeout';
  if idle_ms = 0 or idle_ms > left_ms then
    perform set_config('idle_in_transaction_session_timeout', least(left_ms, 2147483647)::text, true);
  end if;
  if finish_within.outcomes -> 0 -> 'events' is null then
    return query
    select f.id, f.fence, f.result, f.awaited, f.queue, f.available_at, pg_current_xact_id()::text
    from orchestratum.finish(finish_within.worker, finish_within.outcomes, finish_within.at) f;
  else
    return query
    select f.id, f.fence, f.result, f.awaited, f.queue, f.available_at, pg_current_xact_id()::text
    from orchestratum.finish_publishing(finish_within.worker, finish_within.outcomes, finish_within.at) f;
  end if;
end $f$;

-- Adds what has newly finished to the statistics: at most about `max_rows` commands, oldest first. Answers how many, whether there are `more`
-- to be folded at once, and whether some that ended `later` are left for another time. Called by a duty, again while there is more.
--
-- It stays `lag_ms` behind the clock: a command has its time when its outcome is written, and appears when that commits, which a handler's
-- own transaction does a lease's length later at most. What would appear behind `folded_until` would never be counted. A clock of the
-- caller's cannot take it into the future.
-- Rows and `folded_until` commit together, and whoever folds holds the lock of the one row that says how far, and looks only then: each
-- command is counted once, whoever dies and however many fold at once. Who finds it locked leaves it to the other.
-- It counts no further back than a day: that is all anybody is told of. Rows over 25 hours old go.
-- A step ends before the time of the first command that is too many, so that those of one time are never divided. Where that are more than a
-- step's (somebody wrote them by SQL), they are a step of their own.
create function orchestratum.fold_history(lag_ms int, max_rows int default 50000, at timestamptz default clock_timestamp())
returns table (folded int, more boolean, later boolean)
language plpgsql volatile
set enable_seqscan = off set enable_bitmapscan = off set jit = off set datestyle = 'ISO' set timezone = 'UTC'
as $f$
declare
  since timestamptz;
  target timestamptz := least(at, clock_timestamp()) - lag_ms * interval '1 millisecond';
  until timestamptz;
begin
  folded := 0;
  more := false;
  later := false;
  perform orchestratum.require_read_committed();
  perform from orchestratum.statistic_fold f for update skip locked;
  if not found then
    later := true;
    return next;
    return;
  end if;
  select greatest(f.folded_until, target - interval '24 hours') into since from orchestratum.statistic_fold f;

  if since < target then
    select h.finished_at into until
    from orchestratum.history h
    where h.finished_at >= since and h.finished_at < target
    order by h.finished_at
    offset max_rows
    limit 1;
    more := found;
    until := case when more then greatest(until, since + interval '1 microsecond') else target end;

    -- Each command once for how long it waited and once for how long it ran, counted by bucket: of thousands, some dozens are left.
    with counted as materialized (
      select
        date_bin('5 minutes', h.finished_at, '2000-01-01 00:00:00+00') as started_at, h.queue, h.name, coalesce(h.hook, '') as hook, h.status,
        case when h.worker <> 'cancel' then h.worker end as worker, measure.name as measure,
        case when measure.ms < 0.001 then 0 else floor(4 * ln(measure.ms * 1000) / ln(2::float8))::int end as bucket, count(*) as count, sum(measure.ms) as ms
      from orchestratum.history h
      cross join lateral (
        values ('waiting', h.started_at - h.due_at), ('execution', h.finished_at - h.started_at)
      ) taken (name, time)
      cross join lateral (
        select
          taken.name,
          case
            when h.status not in ('succeeded', 'failed', 'timed_out') then null
            when taken.time < interval '0' then 0
            else date_part('epoch', taken.time) * 1000
          end as ms
      ) measure
      where h.finished_at >= since and h.finished_at < until
      group by 1, 2, 3, 4, 5, 6, 7, 8
    ),
    spanned as materialized (
      select
        span.minutes, date_bin(span.minutes * interval '1 minute', c.started_at, '2000-01-01 00:00:00+00') as started_at,
        c.queue, c.name, c.hook, c.status, c.worker, c.measure, c.bucket, c.count, c.ms
      from counted c
      cross join (values (5), (60)) span (minutes)
    ),
    bucketed as (
      select
        s.minutes, s.started_at, s.queue, s.name, s.hook, s.status, s.measure, s.bucket, sum(s.count)::bigint as count, sum(s.ms) as ms
      from spanned s
      group by 1, 2, 3, 4, 5, 6, 7, 8
    ),
    kept as (
      insert into orchestratum.statistic as s (
        span, started_at, queue, name, hook, status, count, waiting_ms, execution_ms, waiting, execution
      )
      select
        b.minutes, b.started_at, b.queue, b.name, b.hook, b.status,
        sum(b.count) filter (where b.measure = 'waiting'),
        coalesce(sum(b.ms) filter (where b.measure = 'waiting'), 0),
        coalesce(sum(b.ms) filter (where b.measure = 'execution'), 0),
        coalesce(jsonb_object_agg(b.bucket, b.count) filter (where b.measure = 'waiting' and b.bucket is not null), '{}'),
        coalesce(jsonb_object_agg(b.bucket, b.count) filter (where b.measure = 'execution' and b.bucket is not null), '{}')
      from bucketed b
      group by b.minutes, b.started_at, b.queue, b.name, b.hook, b.status
      on conflict on constraint statistic_pkey do update
      set count = s.count + excluded.count,
          waiting_ms = s.waiting_ms + excluded.waiting_ms,
          execution_ms = s.execution_ms + excluded.execution_ms,
          waiting = orchestratum.histogram_add(s.waiting, excluded.waiting),
          execution = orchestratum.histogram_add(s.execution, excluded.execution)
    ),
    bucketed_of_workers as (
      select
        s.minutes, s.started_at, s.worker, s.hook, s.status, s.measure, s.bucket, sum(s.count)::bigint as count, sum(s.ms) as ms
      from spanned s
      where s.worker is not null
      group by 1, 2, 3, 4, 5, 6, 7
    ),
    kept_of_workers as (
      insert into orchestratum.statistic_worker as w (
        span, started_at, worker, hook, status, count, executed, waiting_ms, execution_ms, waiting, execution
      )
      select
        b.minutes, b.started_at, b.worker, b.hook, b.status,
        sum(b.count) filter (where b.measure = 'execution'),
        coalesce(sum(b.count) filter (where b.measure = 'execution' and b.bucket is not null), 0),
        coalesce(sum(b.ms) filter (where b.measure = 'waiting'), 0),
        coalesce(sum(b.ms) filter (where b.measure = 'execution'), 0),
        coalesce(jsonb_object_agg(b.bucket, b.count) filter (where b.measure = 'waiting' and b.bucket is not null), '{}'),
        coalesce(jsonb_object_agg(b.bucket, b.count) filter (where b.measure = 'execution' and b.bucket is not null), '{}')
      from bucketed_of_workers b
      group by b.minutes, b.started_at, b.worker, b.hook, b.status
      on conflict on constraint statistic_worker_pkey do update
      set count = w.count + excluded.count,
          executed = w.executed + excluded.executed,
          waiting_ms = w.waiting_ms + excluded.waiting_ms,
          execution_ms = w.execution_ms + excluded.execution_ms,
          waiting = orchestratum.histogram_add(w.waiting, excluded.waiting),
          execution = orchestratum.histogram_add(w.execution, excluded.execution)
    )
    select coalesce(sum(c.count), 0)::int into folded from counted c where c.measure = 'waiting';

    update orchestratum.statistic_fold f set folded_until = until;
    delete from orchestratum.statistic s where s.span in (5, 60) and s.started_at < target - interval '25 hours';
    delete from orchestratum.statistic_worker w where w.span in (5, 60) and w.started_at < target - interval '25 hours';
  end if;

  later := exists (
    select from orchestratum.history h where h.finished_at >= greatest(since, target) order by h.finished_at limit 1
  );
  return next;
end $f$;

-- Commands by their ids, live or finished, with everything that is known of them. ids: ["…"]; what is not there is not answered.
-- A function in this shape, not the view: found by id in lateral subqueries that cannot be pulled up, so that no plan can read a whole index
-- for every row. Statuses as in the view all_commands.
create function orchestratum.get(ids json, at timestamptz default clock_timestamp())
returns table (
  id text, name text, version smallint, hook text, queue text, priority smallint, status text, input text, output text, progress text,
  metadata text, trail text, fence int, attempt smallint, max_attempts smallint, losses smallint, timeout_ms int, worker text, parent_id text,
  created_at text, due_at text, available_at text, started_at text, finished_at text, cancel_requested_at text, unknown_since text
)
language sql stable
set enable_seqscan = off set enable_bitmapscan = off set jit = off set plan_cache_mode = force_generic_plan set datestyle = 'ISO' set timezone = 'UTC'
as $f$
  select
    one.id::text, one.name, one.version, one.hook, one.queue, one.priority, one.status, one.input::text, one.output::text, one.progress::text,
    one.metadata::text, one.trail::text, one.fence, one.attempt, one.max_attempts, one.losses, one.timeout_ms, one.worker, one.parent_id::text,
    one.created_at::text, one.due_at::text, one.available_at::text, one.started_at::text, one.finished_at::text,
    one.cancel_requested_at::text, one.unknown_since::text
  from (select distinct v::uuid as id from json_array_elements_text(get.ids) v) asked
  cross join lateral (
    select *
    from (
      select *
      from (
        select
          c.id, c.name, c.version, c.hook, c.queue, c.priority,
          case when c.available_at <= get.at then 'pending' when c.leased_by is null then 'scheduled' else 'running' end as status,
          c.input, null::json as output, c.progress, c.metadata, c.trail, c.fence,
          least(c.attempt, c.max_attempts) as attempt, c.max_attempts, c.losses, c.timeout_ms, c.leased_by as worker, c.parent_id,
          c.created_at, c.due_at, c.available_at, c.started_at, null::timestamptz as finished_at, c.cancel_requested_at, c.unknown_since
        from orchestratum.command c
        where c.id = asked.id
        limit 1
      ) live
      union all
      select *
      from (
        select
          h.id, h.name, h.version, h.hook, h.queue, h.priority, h.status, h.input, h.output, null::json, h.metadata, h.trail, h.fence,
          h.attempt, h.max_attempts, h.losses, h.timeout_ms, h.worker, h.parent_id,
          h.created_at, h.due_at, null::timestamptz, h.started_at, h.finished_at, h.cancel_requested_at, null::timestamptz
        from orchestratum.history h
        where h.id = asked.id
        limit 1
      ) past
    ) either
    limit 1
  ) one
$f$;

-- One event by its id. A function for the same reason as get().
create function orchestratum.get_event(id uuid)
returns table (stream text, version int, topic text, data text, metadata text, appended_at text)
language sql stable
set enable_seqscan = off set enable_bitmapscan = off set jit = off set datestyle = 'ISO' set timezone = 'UTC'
as $f$
  select e.stream, e.version, e.topic, e.data::text, e.metadata::text, e.appended_at::text
  from orchestratum.event e
  where e.id = get_event.id
  limit 1
$f$;

-- Hands back, unburnt, what is leased to a worker and unknown to it: the reply of a claim was lost. known: [{"id", "fence"}].
-- A claim whose reply was lost may still be running and commit late: called again before every claim until its lease would have ended.
-- Never called while a claim of this worker is open (its leases are not known yet); a reply that comes after its deadline is dropped unread.
-- Each leaves an entry in its trail: for as long as it lasted, everybody saw the command running. confirm knows it by its message.
-- Leases lie in their lanes between the clock and a lease's length after it, so no index by worker is needed.
create function orchestratum.give_back(worker text, lanes json, known json, lease_ms int, at timestamptz default clock_timestamp())
returns int
language plpgsql volatile
set enable_seqscan = off set enable_bitmapscan = off set jit = off set plan_cache_mode = force_generic_plan set datestyle = 'ISO' set timezone = 'UTC'
as $f$
#variable_conflict use_column
declare
  count int;
begin
  perform orchestratum.require_read_committed();
  with found as materialized (
    select c.row
    from json_to_recordset(give_back.lanes) as lane (queue text, priority smallint)
    cross join lateral (
      select c.ctid as row, c.id, c.fence
      from orchestratum.command c
      where c.queue = lane.queue
        and c.priority = lane.priority
        and c.available_at > give_back.at
        and c.available_at <= give_back.at + 2 * give_back.lease_ms * interval '1 millisecond'
        and c.leased_by = give_back.worker
      for update skip locked
    ) c
    where not exists (select from json_to_recordset(give_back.known) as k (id uuid, fence int) where k.id = c.id and k.fence = c.fence)
  )
  update orchestratum.command c
  set available_at = give_back.at,
      attempt = c.attempt - 1,
      leased_by = null,
      trail = orchestratum.trail_add(c.trail, jsonb_build_object(
        'code', 'released', 'message', 'The reply of its claim was lost', 'fence', c.fence, 'attempt', c.attempt, 'worker', c.leased_by,
        'started_at', c.started_at, 'ended_at', give_back.at))
  where c.ctid = any (array(select found.row from found));
  get diagnostics count = row_count;
  return count;
end $f$;

-- The queues (["…"]) of workers that run and have a handler for a name and version, where workers serve this queue and none of them has one.
-- Null where one has, or had within three minutes, since it may be about to come back; where one may have, since an older release does not say;
-- where nobody serves the queue; and where nobody that runs has one.
create function orchestratum.handled_elsewhere(queue text, name text, version smallint, at timestamptz default clock_timestamp())
returns json
language sql stable
as $f$
  with fleet as materialized (
    select
      w.queues,
      w.stopped_at is null and w.last_seen_at >= handled_elsewhere.at - w.lost_after_ms * interval '1 millisecond' as is_there,
      w.last_seen_at >= handled_elsewhere.at - interval '3 minutes' as is_recent,
      handled_elsewhere.queue = any (w.queues) as serves,
      w.handlers is null as is_silent,
      exists (
        select
        from json_to_recordset(w.handlers) h (name text, version smallint, upgrades boolean)
        where h.name = handled_elsewhere.name
          and (h.version = handled_elsewhere.version or h.upgrades and h.version > handled_elsewhere.version)
      ) as has_one
    from orchestratum.worker w
    where w.last_seen_at >= handled_elsewhere.at - greatest(interval '3 minutes', w.lost_after_ms * interval '1 millisecond')
  )
  select json_agg(apart.queue order by apart.queue)
  from (
    select distinct q.queue
    from fleet f
    cross join lateral unnest(f.queues) q (queue)
    where f.is_there and f.has_one
  ) apart
  where exists (select from fleet f where f.serves and f.is_there)
    and not exists (select from fleet f where f.serves and (f.is_there or f.is_recent) and (f.is_silent or f.has_one))
$f$;

-- Extends leases and carries progress. leases: [{"id", "fence", "progress"}]. Answers like finish: 'accepted', 'busy', 'missing'.
-- A busy row is not a lost lease: the handler may hold it in its own open transaction.
create function orchestratum.heartbeat(worker text, leases json, lease_ms int, at timestamptz default clock_timestamp())
returns table (id text, fence int, result text, cancel_requested boolean)
language plpgsql volatile
set enable_seqscan = off set enable_bitmapscan = off set jit = off set plan_cache_mode = force_generic_plan
as $f$
#variable_conflict use_column
begin
  perform orchestratum.require_read_committed();
  return query
  with reported as materialized (
    select distinct on (r.id, r.fence) r.*
    from json_to_recordset(heartbeat.leases) as r (id uuid, fence int, progress json)
  ),
  held as materialized (
    select
      r.id, r.fence, r.progress, l.row, seen.cancel_requested_at is not null as cancel_requested, seen.id is not null as seen
    from reported r
    left join lateral (
      select c.id, c.cancel_requested_at
      from orchestratum.command c
      where c.id = r.id and c.fence = r.fence and c.leased_by = heartbeat.worker
      limit 1
    ) seen on true
    left join lateral (
      select x.ctid as row
      from orchestratum.command x
      where x.id = r.id and x.fence = r.fence and x.leased_by = heartbeat.worker
      for update skip locked
    ) l on true
  ),
  extended as (
    update orchestratum.command c
    set available_at = greatest(c.available_at, heartbeat.at + heartbeat.lease_ms * interval '1 millisecond'),
        progress = coalesce(held.progress, c.progress)
    from held
    where c.ctid = held.row
    returning c.id, c.fence
  )
  select
    h.id::text, h.fence,
    case when e.id is not null then 'accepted' when h.seen then 'busy' else 'missing' end, coalesce(h.cancel_requested, false)
  from held h
  left join extended e on e.id = h.id and e.fence = h.fence;
end $f$;

-- Two histograms as one: {"<bucket>": <how many>}.
create function orchestratum.histogram_add(one jsonb, other jsonb)
returns jsonb
language sql immutable
as $f$
  select coalesce(jsonb_object_agg(summed.bucket, summed.count), '{}')
  from (
    select either.bucket, sum(either.count::bigint) as count
    from (
      select a.key as bucket, a.value as count from jsonb_each_text(one) a
      union all
      select b.key, b.value from jsonb_each_text(other) b
    ) either
    group by either.bucket
  ) summed
$f$;

-- The slot of the ring that a command finishing at `at` goes to.
create function orchestratum.history_slot(at timestamptz, succeeded boolean)
returns smallint
language sql stable
as $f$
  select (
    floor(extract(epoch from at) / extract(epoch from case when succeeded then s.keep_succeeded else s.keep_other end) * 14)::bigint % 16
    + case when succeeded then 0 else 16 end
  )::smallint
  from orchestratum.setting s
$f$;

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

-- One page of a list: live commands in the order of their lanes, then finished ones, the newest first.
--
-- filter: {"statuses": […], "queue", "name", "parent_id", "correlation_id", "from", "to", "error_text", "hooks", "erased"}, of which
-- "erased": false leaves out what was erased. after: the place behind which the page begins, {"queue", "priority", "available_at", "id"} of a
-- live command or {"finished_at", "id"} of a finished one, or null. before: leaves out what was created (live) or finished later. It answers
-- summaries, in order, without payloads.
-- Live commands are read lane by lane: within one, the time divides what is pending from what is scheduled or running, so a million that are
-- scheduled cost a list of what is pending nothing. The index has no id; the few of one microsecond are sorted.
-- History is read backwards along history_finished, all slots merged, or only those of one ring; what has a parent or a correlation id goes by
-- the index for that, and is then sorted. enable_sort is off for the first: the plan of an empty table would sort all that there is.
-- The second is a materialized CTE that knows no other condition and wants no order (`union` would): no other index may be tempted.
-- Plans are generic: where history is large, one that is made for the range at hand looks cheaper, and would be made anew for every page, over
-- 32 slots: 2 ms of a page's 3.
-- A stable function sees one snapshot: what ends meanwhile is live or finished on a page, and never neither.
create function orchestratum.list(filter json, after json, max_count int, before timestamptz, at timestamptz default clock_timestamp())
returns table (
  id text, name text, version smallint, hook text, queue text, priority smallint, status text, attempt smallint, max_attempts smallint,
  worker text, parent_id text, correlation_id text, created_at text, due_at text, available_at text, started_at text, finished_at text,
  error_code text, error_message text
)
language plpgsql stable
set enable_seqscan = off set enable_bitmapscan = off set enable_sort = off set jit = off set plan_cache_mode = force_generic_plan
set datestyle = 'ISO' set timezone = 'UTC'
as $f$
#variable_conflict use_column
declare
  f_statuses text[] := array(select v from json_array_elements_text(list.filter -> 'statuses') v);
  f_queue text := list.filter ->> 'queue';
  f_name text := list.filter ->> 'name';
  f_parent_id uuid := list.filter ->> 'parent_id';
  f_correlation_id text := list.filter ->> 'correlation_id';
  -- The first of a chain. Here and not in the query, whose planner would cast the text before it looks at the condition.
  f_first_id uuid := case when f_correlation_id ~* '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$' then f_correlation_id end;
  f_from timestamptz := coalesce((list.filter ->> 'from')::timestamptz, '-infinity');
  f_to timestamptz := coalesce((list.filter ->> 'to')::timestamptz, 'infinity');
  f_until timestamptz := coalesce(list.before, 'infinity');
  f_error_text text := lower(list.filter ->> 'error_text');
  f_hooks boolean := coalesce((list.filter ->> 'hooks')::boolean, false);
  f_erased boolean := coalesce((list.filter ->> 'erased')::boolean, true);
  after_id uuid := list.after ->> 'id';
  after_finished_at timestamptz := list.after ->> 'finished_at';
  after_available_at timestamptz := list.after ->> 'available_at';
  -- The lane that is read, and what of it: from and to which time.
  lane_queue text := coalesce(list.after ->> 'queue', f_queue, '');
  lane_priority smallint := coalesce((list.after ->> 'priority')::smallint, -1::smallint);
  in_lane boolean := list.after ->> 'queue' is not null;
  first_at timestamptz := case when 'pending' = any (f_statuses) then '-infinity' else list.at end;
  -- A lease is a day long at most: what is scheduled beyond is not read for what runs.
  last_at timestamptz := case
    when 'scheduled' = any (f_statuses) then 'infinity'
    when 'running' = any (f_statuses) then list.at + interval '1 day'
    else list.at
  end;
  first_slot int := case when 'succeeded' = any (f_statuses) then 0 else 16 end;
  last_slot int := case when f_statuses && array['failed', 'cancelled', 'timed_out', 'not_found'] then 31 else 15 end;
  wanted int := list.max_count;
  found_count int;
begin
  if after_finished_at is null and f_statuses && array['scheduled', 'pending', 'running'] then
    loop
      if not in_lane then
        after_available_at := '-infinity';
        after_id := '00000000-0000-0000-0000-000000000000';
        -- The one after the lane before.
        select c.queue, c.priority
        into lane_queue, lane_priority
        from orchestratum.command c
        where (c.queue, c.priority) > (lane_queue, lane_priority)
        order by c.queue, c.priority
        limit 1;
        exit when not found or lane_queue <> f_queue;
      end if;
      in_lane := false;
      return query
      select
        c.id::text, c.name, c.version, c.hook, c.queue, c.priority,
        case when c.available_at <= list.at then 'pending' when c.leased_by is null then 'scheduled' else 'running' end,
        least(c.attempt, c.max_attempts), c.max_attempts, c.leased_by, c.parent_id::text,
        case when strpos(replace(c.metadata::text, '\\', ''), '\u') = 0 then c.metadata ->> 'correlationId' end,
        c.created_at::text, c.due_at::text, c.available_at::text, c.started_at::text, null,
        case when c.trail -> -1 ->> 'code' not in ('snoozed', 'released') then c.trail -> -1 ->> 'code' end,
        case when c.trail -> -1 ->> 'code' not in ('snoozed', 'released') then c.trail -> -1 ->> 'message' end
      from orchestratum.command c
      where c.queue = lane_queue
        and c.priority = lane_priority
        and c.available_at >= greatest(after_available_at, first_at)
        and c.available_at <= last_at
        and (c.available_at, c.id) > (after_available_at, after_id)
        and case when c.available_at <= list.at then 'pending' when c.leased_by is null then 'scheduled' else 'running' end = any (f_statuses)
        and c.created_at >= f_from
        and c.created_at < f_to
        and c.created_at <= f_until
        and (f_hooks or c.hook is null)
        and (f_queue is null or c.queue = f_queue)
        and (f_name is null or c.name = f_name)
        and (f_parent_id is null or c.parent_id = f_parent_id)
        and (
          f_correlation_id is null
          or c.id::text = lower(f_correlation_id)
          or case when strpos(replace(c.metadata::text, '\\', ''), '\u') = 0 then left(c.metadata ->> 'correlationId', 200) end = f_correlation_id
        )
        and (
          f_error_text is null
          or exists (
            select
            from jsonb_array_elements(c.trail) e
            where strpos(lower(concat_ws(e'\n', e ->> 'code', e ->> 'name', e ->> 'message')), f_error_text) > 0
          )
        )
      order by c.available_at, c.id
      limit wanted;
      get diagnostics found_count = row_count;
      wanted := wanted - found_count;
      if wanted <= 0 then
        return;
      end if;
    end loop;
  end if;

  if not f_statuses && array['succeeded', 'failed', 'cancelled', 'timed_out', 'not_found'] then
    return;
  end if;
  if after_finished_at is null then
    after_finished_at := 'infinity';
    after_id := 'ffffffff-ffff-ffff-ffff-ffffffffffff';
  end if;

  if f_parent_id is null and f_correlation_id is null then
    return query
    select
      h.id::text, h.name, h.version, h.hook, h.queue, h.priority, h.status, h.attempt, h.max_attempts, h.worker, h.parent_id::text,
      case when strpos(replace(h.metadata::text, '\\', ''), '\u') = 0 then h.metadata ->> 'correlationId' end,
      h.created_at::text, h.due_at::text, null, h.started_at::text, h.finished_at::text,
      case when h.trail -> -1 ->> 'code' not in ('snoozed', 'released') then h.trail -> -1 ->> 'code' end,
      case when h.trail -> -1 ->> 'code' not in ('snoozed', 'released') then h.trail -> -1 ->> 'message' end
    from orchestratum.history h
    where h.slot between first_slot and last_slot
      and h.finished_at >= f_from
      and h.finished_at <= least(after_finished_at, f_until, f_to)
      and h.finished_at < f_to
      and (h.finished_at, h.id) < (after_finished_at, after_id)
      and h.status = any (f_statuses)
      and (f_hooks or h.hook is null)
      and (f_erased or h.erased_at is null)
      and (f_queue is null or h.queue = f_queue)
      and (f_name is null or h.name = f_name)
      and (
        f_error_text is null
        or exists (
          select
          from jsonb_array_elements(h.trail) e
          where strpos(lower(concat_ws(e'\n', e ->> 'code', e ->> 'name', e ->> 'message')), f_error_text) > 0
        )
      )
    order by h.finished_at desc, h.id desc
    limit wanted;
    return;
  end if;

  return query
  with related as materialized (
    select h.id, h.slot
    from orchestratum.history h
    where h.parent_id = f_parent_id
    union all
    select h.id, h.slot
    from orchestratum.history h
    where f_parent_id is null
      and h.id::text <> lower(f_correlation_id)
      and h.metadata is not null
      and case
        when strpos(h.metadata::text, '\u') = 0 or strpos(replace(h.metadata::text, '\\', ''), '\u') = 0 then left(h.metadata ->> 'correlationId', 200)
      end = f_correlation_id collate "C"
    union all
    select own.id, own.slot
    from (select f_first_id as id where f_parent_id is null) asked
    cross join lateral (select h.id, h.slot from orchestratum.history h where h.id = asked.id limit 1) own
  ),
  chosen as materialized (
    select one.*
    from related
    cross join lateral (
      select
        h.id, h.name, h.version, h.hook, h.queue, h.priority, h.status, h.attempt, h.max_attempts, h.worker, h.parent_id,
        case when strpos(replace(h.metadata::text, '\\', ''), '\u') = 0 then h.metadata ->> 'correlationId' end as correlation_id,
        h.created_at, h.due_at, h.started_at, h.finished_at, h.erased_at, h.trail
      from orchestratum.history h
      where h.id = related.id and h.slot = related.slot
      limit 1
    ) one
  )
  select
    h.id::text, h.name, h.version, h.hook, h.queue, h.priority, h.status, h.attempt, h.max_attempts, h.worker, h.parent_id::text,
    h.correlation_id, h.created_at::text, h.due_at::text, null, h.started_at::text, h.finished_at::text,
    case when h.trail -> -1 ->> 'code' not in ('snoozed', 'released') then h.trail -> -1 ->> 'code' end,
    case when h.trail -> -1 ->> 'code' not in ('snoozed', 'released') then h.trail -> -1 ->> 'message' end
  from chosen h
  where h.finished_at >= f_from
    and h.finished_at < f_to
    and h.finished_at <= f_until
    and (h.finished_at, h.id) < (after_finished_at, after_id)
    and h.status = any (f_statuses)
    and (f_correlation_id is null or coalesce(left(h.correlation_id, 200), h.id::text) = f_correlation_id or h.id::text = lower(f_correlation_id))
    and (f_hooks or h.hook is null)
    and (f_erased or h.erased_at is null)
    and (f_queue is null or h.queue = f_queue)
    and (f_name is null or h.name = f_name)
    and (
      f_error_text is null
      or exists (
        select
        from jsonb_array_elements(h.trail) e
        where strpos(lower(concat_ws(e'\n', e ->> 'code', e ->> 'name', e ->> 'message')), f_error_text) > 0
      )
    )
  order by h.finished_at desc, h.id desc
  limit wanted;
end $f$;

-- When is anything due next in these queues, after `at`? queues: ["…"]. `at` is the clock that the last claim answered: what fell due since
-- then is counted, what was due by then that claim has looked at. With a clock of its own, all that falls due between the two is overslept.
create function orchestratum.next_due(queues json, at timestamptz)
returns text
language sql stable
set enable_seqscan = off set enable_bitmapscan = off set jit = off set plan_cache_mode = force_generic_plan set datestyle = 'ISO' set timezone = 'UTC'
as $f$
  select min(head.available_at)::text
  from json_array_elements_text(next_due.queues) q (queue)
  cross join generate_series(0, 9) p (priority)
  cross join lateral (
    select c.available_at
    from orchestratum.command c
    where c.queue = q.queue and c.priority = p.priority and c.available_at > next_due.at
    order by c.available_at
    limit 1
  ) head
  where head.available_at < 'infinity'
$f$;

-- How far commands are, and by which clock, for those who watch. ids: ["…"]; what is not there is not answered. In the shape of get(), for its
-- reasons.
create function orchestratum.progress(ids json, at timestamptz default clock_timestamp())
returns table (id text, status text, progress text, finished_at text, at text)
language sql stable
set enable_seqscan = off set enable_bitmapscan = off set jit = off set datestyle = 'ISO' set timezone = 'UTC'
as $f$
  select one.id::text, one.status, one.progress::text, one.finished_at::text, progress.at::text
  from (select distinct v::uuid as id from json_array_elements_text(progress.ids) v) asked
  cross join lateral (
    select *
    from (
      select *
      from (
        select
          c.id, case when c.available_at <= progress.at then 'pending' when c.leased_by is null then 'scheduled' else 'running' end as status,
          c.progress, null::timestamptz as finished_at
        from orchestratum.command c
        where c.id = asked.id
        limit 1
      ) live
      union all
      select *
      from (
        select h.id, h.status, null::json, h.finished_at
        from orchestratum.history h
        where h.id = asked.id
        limit 1
      ) past
    ) either
    limit 1
  ) one
$f$;

-- Publishes events to no stream, and pushes their deliveries. Answers what to hint at.
-- events: as append takes them. `repeat` says that some may have been published before (a reply was lost, or the caller chose the id): such
-- an event is left as it is, and delivers nothing again; its deliveries are hinted at, since that hint may have been lost, too. Of another
-- topic or other data it is a mistake of the caller's, and the whole call is refused (SQLSTATE OR002).
create function orchestratum.publish_batch(events json, repeat boolean default false, at timestamptz default clock_timestamp())
returns table (queue text, available_at text)
language plpgsql volatile
set enable_seqscan = off set enable_bitmapscan = off set jit = off set plan_cache_mode = force_generic_plan
as $f$
#variable_conflict use_column
declare
  into_slot smallint;
  subscribed boolean;
  fresh uuid[];
  twin uuid;
begin
  if not publish_batch.repeat then
    return query
    select a.queue, a.available_at
    from orchestratum.append(null, null, publish_batch.events, publish_batch.at) a
    where a.version is null;
    return;
  end if;

  perform orchestratum.require_read_committed();
  into_slot := orchestratum.event_slot(at);
  -- Before the events, and in a statement of its own: see append.
  subscribed := exists (select from orchestratum.subscription_pattern);
  with published as (
    -- Ordered, so that two batches with the same ids wait for each other in one direction only.
    insert into orchestratum.event (id, slot, topic, data, metadata, appended_at)
    select e.id, into_slot, e.topic, case when e.null_data then 'null'::json else e.data end, e.metadata, publish_batch.at
    from json_to_recordset(publish_batch.events) as e (id uuid, topic text, data json, null_data boolean, metadata json)
    left join lateral (select x.id from orchestratum.event x where x.id = e.id limit 1) known on true
    where known.id is null
    order by e.id
    on conflict (id, slot) do nothing
    returning event.id
  ),
  queued as (
    insert into orchestratum.event_inbox (event_id, slot)
    select p.id, into_slot from published p
  )
  select coalesce(array_agg(p.id), '{}') into fresh from published p;

  select e.id into twin
  from json_to_recordset(publish_batch.events) as e (id uuid, topic text, data json, null_data boolean)
  cross join lateral (select case when e.null_data then 'null'::json else e.data end as data) given
  cross join lateral (select x.stream, x.topic, x.data from orchestratum.event x where x.id = e.id limit 1) earlier
  where earlier.stream is not null
    or earlier.topic <> e.topic
    or earlier.data::text is distinct from given.data::text and earlier.data::jsonb is distinct from given.data::jsonb
  limit 1;
  if found then
    raise exception 'Cannot publish event %: its id was published before with another topic or data, or appended to a stream', twin
      using errcode = 'OR002', detail = twin::text;
  end if;

  if cardinality(fresh) < json_array_length(publish_batch.events) then
    return query select h.queue, h.available_at from orchestratum.event_hint(publish_batch.events, publish_batch.at) h;
  else
    return query select h.queue, h.available_at from orchestratum.reader_hint(publish_batch.at) h;
  end if;
  if subscribed and cardinality(fresh) > 0 then
    return query
    select d.queue, d.available_at
    from orchestratum.deliver((
      select json_agg(e.value order by e.place)
      from (
        select distinct on (v.value ->> 'id') v.value, v.place
        from json_array_elements(publish_batch.events) with ordinality as v (value, place)
        where (v.value ->> 'id')::uuid = any (fresh)
        order by v.value ->> 'id', v.place
      ) e
    ), null, null, publish_batch.at) d;
  end if;
end $f$;

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

-- Puts commands into the queue. Answers those that were new, with what a hint must say: the queue, and from when to look.
-- `repeat` says that some of them may have been pushed before (the library tries again after a lost reply, or the caller chose the id).
-- What has finished meanwhile is taken out again after the insert: by then the first push, if there was one, has been committed, claimed
-- and finished where this can see it, however long the insert had to wait. Looking before the insert left a hole as wide as that wait.
-- An id that was pushed with another name or input is a mistake of the caller's, and the whole call is refused (SQLSTATE OR001). Not where an
-- operator has corrected the input since, as table act knows: what the caller pushes again is then no longer there to be compared with.
create function orchestratum.push_batch(commands json, repeat boolean default false, at timestamptz default clock_timestamp())
returns table (id text, queue text, available_at text)
language plpgsql volatile
set enable_seqscan = off set enable_bitmapscan = off set jit = off set plan_cache_mode = force_generic_plan
set datestyle = 'ISO' set timezone = 'UTC'
as $f$
#variable_conflict use_column
declare
  fresh uuid[];
  twin uuid;
begin
  if not push_batch.repeat then
    return query
    insert into orchestratum.command (
      id, name, version, hook, queue, priority, due_at, available_at, max_attempts, timeout_ms, awaited, parent_id, input, metadata, created_at
    )
    select
      r.id, r.name, r.version, r.hook, r.queue, r.priority, r.due_at, r.available_at, r.max_attempts, r.timeout_ms, r.awaited, r.parent_id,
      r.input, r.metadata, r.created_at
    from orchestratum.command_rows(push_batch.commands, push_batch.at) r
    on conflict (id) do nothing
    returning command.id::text, command.queue, command.available_at::text;
  else
    perform orchestratum.require_read_committed();
    with pushed as (
      -- Ordered, so that two batches with the same ids wait for each other in one direction only.
      insert into orchestratum.command (
        id, name, version, hook, queue, priority, due_at, available_at, max_attempts, timeout_ms, awaited, parent_id, input, metadata, created_at
      )
      select
        r.id, r.name, r.version, r.hook, r.queue, r.priority, r.due_at, r.available_at, r.max_attempts, r.timeout_ms, r.awaited, r.parent_id,
        r.input, r.metadata, r.created_at
      from orchestratum.command_rows(push_batch.commands, push_batch.at) r
      order by r.id
      on conflict (id) do nothing
      returning command.id
    )
    select array_agg(p.id) into fresh from pushed p;

    select r.id into twin
    from orchestratum.command_rows(push_batch.commands, push_batch.at) r
    left join lateral (select c.name, c.input from orchestratum.command c where c.id = r.id limit 1) live on true
    left join lateral (select h.name, h.input, h.erased_at is not null as erased from orchestratum.history h where h.id = r.id limit 1) past on true
    cross join lateral (values (live.name, live.input), (past.name, case when past.erased then r.input else past.input end)) earlier (name, input)
    where earlier.name is not null
      and (
        earlier.name <> r.name
        or earlier.input::text is distinct from r.input::text
        and earlier.input::jsonb is distinct from r.input::jsonb
        -- Asked last, and of what differs only.
        and not exists (
          select
          from orchestratum.act a
          where a.target -> 'ids' ->> 0 = r.id::text
            and a.target ->> 'corrected' is not null
        )
      )
    limit 1;
    if found then
      raise exception 'Cannot push command %: its id was pushed before with another name or input', twin
        using errcode = 'OR001', detail = twin::text;
    end if;

    delete from orchestratum.command c
    where c.id = any (array(
      select f.id
      from unnest(fresh) f (id)
      cross join lateral (select from orchestratum.history h where h.id = f.id limit 1) past
    ));
    return query
    select c.id::text, c.queue, c.available_at::text from orchestratum.command c where c.id = any (fresh);
  end if;
end $f$;

-- Events after a position, in the order of the log: at most `max_count`, and no more than about `max_bytes` of data. pattern: a regular
-- expression for their topics, null for all; at most `max_scanned` events are looked at for it. The last row is no event: its position
-- (null: that of the event before it, or there was nothing) is how far the log has been read, and where to go on from; `more` tells whether
-- a limit stopped it there.
-- Whoever reads calls sequence_events() first, in a transaction of its own.
-- A function for the same reason as the hot ones: as a join, prepared on an empty log, a read of 1,000 among a million took over 40 s.
create function orchestratum.read_log(
  after bigint, max_count int, pattern text default null, max_scanned int default 10000, max_bytes int default 8000000
)
returns table (event_position text, id text, stream text, version int, topic text, data text, metadata text, appended_at text, more boolean)
language plpgsql stable
set enable_seqscan = off set enable_bitmapscan = off set jit = off set datestyle = 'ISO' set timezone = 'UTC'
as $f$
#variable_conflict use_column
declare
  count int;
begin
  -- The usual case, every topic and no retention, by itself: by the name of its slot an event is found in half the time that it takes among
  -- all slots, and the rows stream through one window. Half of what the statement below takes, all in all.
  if read_log.pattern is null
    and not exists (select from orchestratum.event_position x where x.position > read_log.after and x.slot > 0)
  then
    return query
    select
      w.position::text, w.id::text, w.stream, w.version, w.topic, w.data, w.metadata, w.appended_at::text, null::boolean
    from (
      select
        p.position, e.id, e.stream, e.version, e.topic, e.data, e.metadata, e.appended_at,
        sum(coalesce(octet_length(e.data), 0)) over (order by p.position rows between unbounded preceding and current row)
          - coalesce(octet_length(e.data), 0) as before
      from (
        select x.position, x.event_id
        from orchestratum.event_position_0 x
        where x.position > read_log.after
        order by x.position
        limit read_log.max_count
      ) p
      cross join lateral (
        select v.id, v.stream, v.version, v.topic, v.data::text as data, v.metadata::text as metadata, v.appended_at
        from orchestratum.event_0 v
        where v.id = p.event_id and v.slot = 0
        limit 1
      ) e
    ) w
    where w.before < read_log.max_bytes;
    get diagnostics count = row_count;

    return query
    select
      null, null, null, null::int, null, null, null, null,
      count = read_log.max_count
        or count > 0 and exists (
          select
          from orchestratum.event_position_0 x
          where x.position > read_log.after
          order by x.position
          offset count
        );
    return;
  end if;

  return query
  with found as materialized (
    select
      p.position, e.id, e.stream, e.version, e.topic, e.data, e.metadata, e.appended_at,
      -- The bytes of those before it.
      sum(coalesce(octet_length(e.data), 0)) over (order by p.position rows between unbounded preceding and current row)
        - coalesce(octet_length(e.data), 0) as before
    from (
      select x.position, x.slot, x.event_id
      from orchestratum.event_position x
      where x.position > read_log.after
      order by x.position
      limit case when read_log.pattern is null then read_log.max_count else read_log.max_scanned end
    ) p
    cross join lateral (
      select v.id, v.stream, v.version, v.topic, v.data::text as data, v.metadata::text as metadata, v.appended_at
      from orchestratum.event v
      where v.id = p.event_id and v.slot = p.slot and (read_log.pattern is null or v.topic ~ read_log.pattern)
      limit 1
    ) e
    order by p.position
    limit read_log.max_count
  )
  select
    f.position::text, f.id::text, f.stream, f.version, f.topic, f.data, f.metadata, f.appended_at::text, null::boolean
  from found f
  -- One that is larger than all that is allowed comes alone.
  where f.before < read_log.max_bytes
  union all
  select
    case when part.is_full or read_log.pattern is null then part.last_position else seen.last_position end::text,
    null, null, null, null, null, null, null,
    part.is_full or coalesce(seen.count = read_log.max_scanned, false)
  from (
    select
      max(f.position) filter (where f.before < read_log.max_bytes) as last_position,
      count(*) = read_log.max_count or coalesce(bool_or(f.before >= read_log.max_bytes), false) as is_full
    from found f
  ) part
  left join lateral (
    select max(s.position) as last_position, count(*) as count
    from (
      select x.position
      from orchestratum.event_position x
      where x.position > read_log.after
      order by x.position
      limit read_log.max_scanned
    ) s
  ) seen on read_log.pattern is not null and not part.is_full;
end $f$;

-- Events of one stream, from a version (null: from its beginning, or backwards from its end), at most `max_count` and no more than about
-- `max_bytes` of data, in the order asked for. cut: whether there were more that these limits left out by their bytes.
-- A function for the same reason as read_log: what it costs must not depend on how many events there were when its plan was made.
create function orchestratum.read_stream(
  stream text, from_version int, backwards boolean, max_count int, max_bytes int default 8000000
)
returns table (id text, stream_name text, version int, topic text, data text, metadata text, appended_at text, cut boolean)
language sql stable
set enable_seqscan = off set enable_bitmapscan = off set jit = off set datestyle = 'ISO' set timezone = 'UTC'
as $f$
  select
    w.id::text, w.stream, w.version, w.topic, w.data::text, w.metadata::text, w.appended_at::text,
    w.found > count(*) over ()
  from (
    select
      e.id, e.stream, e.version, e.topic, e.data, e.metadata, e.appended_at, e.place,
      sum(e.size) over (order by e.place) - e.size as before,
      count(*) over () as found
    from (
      (
        select f.id, f.stream, f.version, f.topic, f.data, f.metadata, f.appended_at, f.version as place,
          coalesce(octet_length(f.data::text), 0) as size
        from orchestratum.event f
        where not read_stream.backwards
          and f.stream = read_stream.stream
          and f.version >= coalesce(read_stream.from_version, 0)
        order by f.version
        limit read_stream.max_count
      )
      union all
      (
        select b.id, b.stream, b.version, b.topic, b.data, b.metadata, b.appended_at, -b.version,
          coalesce(octet_length(b.data::text), 0)
        from orchestratum.event b
        where read_stream.backwards
          and b.stream = read_stream.stream
          and b.version <= coalesce(read_stream.from_version, 2147483647)
        order by b.version desc
        limit read_stream.max_count
      )
    ) e
  ) w
  -- One that is larger than all that is allowed comes alone.
  where w.before < read_stream.max_bytes
  order by w.place
$f$;

-- What an append hints at beside its deliveries: readers, where there are any. In a queue's place stands what no worker serves.
create function orchestratum.reader_hint(at timestamptz)
returns table (queue text, available_at text)
language sql stable
set enable_seqscan = off set datestyle = 'ISO' set timezone = 'UTC'
as $f$
  select '*readers*', reader_hint.at::text where exists (select from orchestratum.reader)
$f$;

-- Notes what an operator did to these commands; nothing where it was none. A target that is not given is their ids, the first 20 of them:
-- `affected` says how many there are.
create function orchestratum.record_act(at timestamptz, by_whom text, kind text, target json, affected uuid[])
returns void
language sql volatile
as $f$
  insert into orchestratum.act (at, by_whom, kind, target, affected)
  select
    record_act.at, record_act.by_whom, record_act.kind,
    coalesce(record_act.target, json_build_object('ids', to_json(record_act.affected[1:20]))),
    cardinality(record_act.affected)
  where cardinality(record_act.affected) > 0
$f$;

-- Notes that an operator gave these commands another input, each by itself: a push that is repeated with the input of the first one is
-- known by that as a repeat (push_batch).
create function orchestratum.record_correction(at timestamptz, by_whom text, kind text, corrected uuid[])
returns void
language sql volatile
as $f$
  insert into orchestratum.act (at, by_whom, kind, target, affected)
  select record_correction.at, record_correction.by_whom, record_correction.kind, json_build_object('ids', json_build_array(v), 'corrected', true), 1
  from unnest(record_correction.corrected) v
$f$;

-- Says which subscriptions there are. subscriptions: [{"name", "patterns": […], "queue", "priority", "max_attempts", "timeout_ms"}].
-- mode: 'see' (a worker, once a minute: adds what is not there, and changes nothing), 'declare' (a worker, when it starts: the newest start
-- decides what a subscription is) or 'add' (somebody, by hand). What was removed stays so but for the last: a worker of an older release must
-- not bring it back.
-- Answers how many were written. In one order, so that workers that start together do not lock each other out; what was said within half a minute is not said again.
create function orchestratum.register_subscriptions(subscriptions json, mode text, at timestamptz default clock_timestamp())
returns int
language plpgsql volatile
set enable_seqscan = off set enable_bitmapscan = off set jit = off
as $f$
#variable_conflict use_column
declare
  written text[];
begin
  with asked as (
    select s.* from json_to_recordset(register_subscriptions.subscriptions) as s (
      name text, queue text, priority smallint, max_attempts smallint, timeout_ms int
    )
  ),
  upserted as (
    insert into orchestratum.subscription as s (name, queue, priority, max_attempts, timeout_ms, added_at, seen_at)
    select a.name, a.queue, a.priority, a.max_attempts, a.timeout_ms, register_subscriptions.at, register_subscriptions.at
    from asked a
    order by a.name
    on conflict (name) do update
    set queue = excluded.queue,
        priority = excluded.priority,
        max_attempts = excluded.max_attempts,
        timeout_ms = excluded.timeout_ms,
        added_at = case when s.removed_at is null then s.added_at else excluded.added_at end,
        seen_at = excluded.seen_at,
        removed_at = null
    where register_subscriptions.mode = 'add' or register_subscriptions.mode = 'declare' and s.removed_at is null
    returning s.name
  )
  select coalesce(array_agg(u.name), '{}') into written from upserted u;

  delete from orchestratum.subscription_pattern p
  where p.subscription = any (written)
    and not exists (
      select
      from json_to_recordset(register_subscriptions.subscriptions) as s (name text, patterns json)
      cross join lateral json_array_elements_text(s.patterns) v
      where s.name = p.subscription and v = p.pattern
    );
  insert into orchestratum.subscription_pattern (pattern, subscription)
  select v, s.name
  from json_to_recordset(register_subscriptions.subscriptions) as s (name text, patterns json)
  cross join lateral json_array_elements_text(s.patterns) v
  where s.name = any (written)
  order by s.name, v
  on conflict (pattern, subscription) do nothing;

  update orchestratum.subscription s
  set seen_at = register_subscriptions.at
  from json_to_recordset(register_subscriptions.subscriptions) as a (name text)
  where s.name = a.name
    and a.name <> all (written)
    and s.seen_at < register_subscriptions.at - interval '30 seconds';
  return cardinality(written);
end $f$;

-- The functions that lock and then look need each of their statements to see what has been committed meanwhile.
create function orchestratum.require_read_committed()
returns void
language plpgsql stable
as $f$
begin
  if current_setting('transaction_isolation') not in ('read committed', 'read uncommitted') then
    raise exception 'Cannot go on in a transaction that is %: this needs read committed', current_setting('transaction_isolation')
      using errcode = 'invalid_transaction_state';
  end if;
end $f$;

-- Moves finished commands back among the live ones: an operator's way out of a final status. They keep id, trail and fence, start over with
-- all their attempts, and are due and available from now, a microsecond apart in the order asked: what they waited before was counted when
-- they ended. ids: ["…"]; change: {"input": …} replaces the input.
-- Answers 'retried', 'unfinished' (it lives, and waits or runs), 'erased' (its input is gone: it needs a new one), 'busy' (somebody else has
-- it locked: ask again) or 'unknown'.
-- Rows without an id tell what to hint at, as in finish.
-- It waits for no row lock. An id that somebody pushes again in an open transaction stops the insert, and no look beforehand could see it:
-- after lock_timeout (or as a duplicate, once it is committed) it is found by halving what was asked, and is busy; the others go on. That is
-- given up after five seconds, since a caller waits: what is left is busy, too. An id that is live is left alone even where history should
-- know it, too: a second row is never made of it.
-- History is partitioned, so a row is found again by its place and its partition; a join on the id may be planned as a scan of the index.
create function orchestratum.retry(
  ids json, change json default null, by_whom text default null, target json default null, at timestamptz default clock_timestamp()
)
returns table (id text, result text, queue text, available_at text)
language plpgsql volatile
set enable_seqscan = off set enable_bitmapscan = off set jit = off
set datestyle = 'ISO' set timezone = 'UTC' set lock_timeout = '200ms'
as $f$
#variable_conflict use_column
declare
  wanted uuid[] := array(
    select v::uuid from json_array_elements_text(retry.ids) with ordinality as a (v, place) group by v::uuid order by min(place)
  );
  -- Places in `wanted` that are still to be tried, together.
  ranges int4range[];
  first int;
  last int;
  retried uuid[] := '{}';
  dues jsonb := '[]';
begin
  perform orchestratum.require_read_committed();
  ranges := array(select int4range(1, cardinality(wanted), '[]') where cardinality(wanted) > 0);
  while cardinality(ranges) > 0 loop
    first := lower(ranges[1]);
    last := upper(ranges[1]) - 1;
    ranges := ranges[2:];
    begin
      with asked as materialized (
        select v as id, place from unnest(wanted) with ordinality as a (v, place) where place between first and last
      ),
      locked as materialized (
        select asked.place, l.*
        from asked
        left join lateral (select c.id from orchestratum.command c where c.id = asked.id limit 1) live on true
        cross join lateral (
          select h.tableoid as part, h.ctid as row
          from orchestratum.history h
          where h.id = asked.id and live.id is null and (h.erased_at is null or retry.change -> 'input' is not null)
          for update skip locked
        ) l
      ),
      moved as (
        delete from orchestratum.history h
        using locked
        where h.ctid = locked.row and h.tableoid = locked.part
        returning h.*, locked.place
      ),
      revived as (
        insert into orchestratum.command (
          id, name, version, hook, queue, priority, due_at, available_at, fence, max_attempts, timeout_ms, parent_id, input, metadata, trail,
          created_at
        )
        select
          m.id, m.name, m.version, m.hook, m.queue, m.priority, retry.at + (m.place - 1) * interval '1 microsecond',
          retry.at + (m.place - 1) * interval '1 microsecond', m.fence,
          m.max_attempts, m.timeout_ms, m.parent_id, coalesce(retry.change -> 'input', m.input), m.metadata, m.trail, m.created_at
        from moved m
        returning command.id, command.queue, command.available_at
      )
      select
        retried || array_agg(r.id order by r.available_at),
        dues || coalesce(jsonb_agg(jsonb_build_object('queue', r.queue, 'available_at', r.available_at)), '[]')
      into retried, dues
      from revived r;
    exception when lock_not_available or unique_violation then
      exit when (select clock_timestamp()) > retry.at + interval '5 seconds';
      perform set_config('lock_timeout', '20ms', true);
      if first < last then
        ranges := array[int4range(first, (first + last) / 2, '[]'), int4range((first + last) / 2 + 1, last, '[]')] || ranges;
      end if;
    end;
  end loop;
  if retry.change -> 'input' is null then
    perform orchestratum.record_act(retry.at, retry.by_whom, 'retry', retry.target, retried);
  else
    perform orchestratum.record_correction(retry.at, retry.by_whom, 'retry', retried);
  end if;

  return query
  select
    asked.id::text,
    case
      when asked.id = any (retried) then 'retried'
      when live.id is not null then 'unfinished'
      when past.erased_at is not null and retry.change -> 'input' is null then 'erased'
      when past.id is not null then 'busy'
      else 'unknown'
    end,
    null, null
  from unnest(wanted) asked (id)
  left join lateral (select c.id from orchestratum.command c where c.id = asked.id limit 1) live on true
  left join lateral (select h.id, h.erased_at from orchestratum.history h where h.id = asked.id limit 1) past on true
  union all
  select null, 'due', d.queue, min(d.available_at)::text
  from jsonb_to_recordset(dues) as d (queue text, available_at timestamptz)
  group by d.queue;
end $f$;

-- Gives committed events their positions in the log, at most `max_count` of them. Whoever reads the log runs it first, in a transaction of
-- its own: a position that is handed out before it has committed could be another event's after a crash. A second runner finds the head
-- locked and places nothing, which is as good. Answers how many were placed, how far the log reaches as far as can be seen, and whether
-- somebody else was placing at this moment, so that there may be more in it soon; where there is nothing to place nothing is written, and
-- no lock taken.
-- Why positions follow streams: version 2 can only be appended after version 1 committed (the row in `stream` is locked), so a snapshot
-- that shows version 2 shows version 1 or finds it placed already, and version 1 has the smaller seq. An order by transaction id would not
-- do: a transaction has its id before it appends, and ids begin anew when a dump is restored.
create function orchestratum.sequence_events(max_count int)
returns table (placed int, head text, busy boolean)
language plpgsql volatile
set enable_seqscan = off set enable_bitmapscan = off set jit = off set plan_cache_mode = force_generic_plan
as $f$
#variable_conflict use_column
begin
  -- In one look with the head: what is gone from the inbox has its place up to there.
  return query
  select 0, h.position::text, false
  from orchestratum.event_head h
  where not exists (select from orchestratum.event_inbox);
  if found then
    return;
  end if;
  return query
  with head as materialized (
    select h.position from orchestratum.event_head h for update skip locked
  ),
  taken as (
    delete from orchestratum.event_inbox i
    using head
    where i.seq = any (array(select x.seq from orchestratum.event_inbox x order by x.seq limit sequence_events.max_count))
    returning i.seq, i.slot, i.event_id
  ),
  given as (
    insert into orchestratum.event_position (position, slot, event_id)
    select head.position + row_number() over (order by taken.seq), taken.slot, taken.event_id
    from taken
    cross join head
    returning position
  ),
  moved as (
    update orchestratum.event_head h
    set position = newest.position
    from (select max(given.position) as position from given) newest
    where newest.position is not null
  )
  select
    (select count(*)::int from given),
    -- Of a row that another one moved after this snapshot only the locked version is the newest.
    coalesce((select max(given.position) from given), (select head.position from head), h.position)::text,
    not exists (select from head)
  from orchestratum.event_head h;
end $f$;

-- Commands by their ids, live or finished, without their payloads: what lists show of them. ids: ["…"]; what is not there is not answered.
-- In the shape of get(), for its reasons. A correlation id that is null is the command's own id.
create function orchestratum.summarise(ids json, at timestamptz default clock_timestamp())
returns table (
  id text, name text, version smallint, hook text, queue text, priority smallint, status text, attempt smallint, max_attempts smallint,
  worker text, parent_id text, correlation_id text, created_at text, due_at text, available_at text, started_at text, finished_at text,
  error_code text, error_message text
)
language sql stable
set enable_seqscan = off set enable_bitmapscan = off set jit = off set datestyle = 'ISO' set timezone = 'UTC'
as $f$
  select
    one.id::text, one.name, one.version, one.hook, one.queue, one.priority, one.status, one.attempt, one.max_attempts, one.worker,
    one.parent_id::text, one.correlation_id, one.created_at::text, one.due_at::text, one.available_at::text, one.started_at::text,
    one.finished_at::text,
    case when one.error ->> 'code' not in ('snoozed', 'released') then one.error ->> 'code' end,
    case when one.error ->> 'code' not in ('snoozed', 'released') then one.error ->> 'message' end
  from (select distinct v::uuid as id from json_array_elements_text(summarise.ids) v) asked
  cross join lateral (
    select *
    from (
      select *
      from (
        select
          c.id, c.name, c.version, c.hook, c.queue, c.priority,
          case when c.available_at <= summarise.at then 'pending' when c.leased_by is null then 'scheduled' else 'running' end as status,
          least(c.attempt, c.max_attempts) as attempt, c.max_attempts, c.leased_by as worker, c.parent_id,
          case when strpos(replace(c.metadata::text, '\\', ''), '\u') = 0 then c.metadata ->> 'correlationId' end as correlation_id,
          c.created_at, c.due_at, c.available_at, c.started_at, null::timestamptz as finished_at, c.trail -> -1 as error
        from orchestratum.command c
        where c.id = asked.id
        limit 1
      ) live
      union all
      select *
      from (
        select
          h.id, h.name, h.version, h.hook, h.queue, h.priority, h.status, h.attempt, h.max_attempts, h.worker, h.parent_id,
          case when strpos(replace(h.metadata::text, '\\', ''), '\u') = 0 then h.metadata ->> 'correlationId' end,
          h.created_at, h.due_at, null::timestamptz, h.started_at, h.finished_at, h.trail -> -1
        from orchestratum.history h
        where h.id = asked.id
        limit 1
      ) past
    ) either
    limit 1
  ) one
$f$;

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

-- A command and, behind it, the oldest of what it caused: its hooks and follow-ups, max_children of them at most. Summaries; of the command itself
-- with the number of its newest lease and its trail. Nothing where it is not there.
-- Children that have finished are found by history_parent. No index of live commands has the parent, and none is worth its cost at each push
-- and claim: those are looked for in the whole table, once.
create function orchestratum.timeline(command uuid, max_children int, at timestamptz default clock_timestamp())
returns table (
  id text, name text, version smallint, hook text, queue text, priority smallint, status text, attempt smallint, max_attempts smallint,
  worker text, parent_id text, correlation_id text, created_at text, due_at text, available_at text, started_at text, finished_at text,
  error_code text, error_message text, fence int, trail text
)
language sql stable
set enable_seqscan = off set enable_bitmapscan = off set jit = off set datestyle = 'ISO' set timezone = 'UTC'
as $f$
  with own as materialized (
    select either.fence, either.trail
    from (
      select *
      from (select c.fence, c.trail from orchestratum.command c where c.id = timeline.command limit 1) live
      union all
      select *
      from (select h.fence, h.trail from orchestratum.history h where h.id = timeline.command limit 1) past
    ) either
    limit 1
  ),
  child as materialized (
    select c.id, c.created_at
    from orchestratum.command c
    where c.parent_id = timeline.command and c.id <> timeline.command
    union all
    select h.id, h.created_at
    from orchestratum.history h
    where h.parent_id = timeline.command and h.id <> timeline.command
  ),
  oldest as materialized (
    select child.id, child.created_at
    from child
    order by child.created_at, child.id
    limit timeline.max_children
  )
  select
    s.id, s.name, s.version, s.hook, s.queue, s.priority, s.status, s.attempt, s.max_attempts, s.worker, s.parent_id, s.correlation_id,
    s.created_at, s.due_at, s.available_at, s.started_at, s.finished_at, s.error_code, s.error_message, own.fence, own.trail::text
  from own
  cross join orchestratum.summarise(json_build_array(timeline.command), timeline.at) s
  union all
  select
    s.id, s.name, s.version, s.hook, s.queue, s.priority, s.status, s.attempt, s.max_attempts, s.worker, s.parent_id, s.correlation_id,
    s.created_at, s.due_at, s.available_at, s.started_at, s.finished_at, s.error_code, s.error_message, null, null
  from orchestratum.summarise((select coalesce(json_agg(oldest.id), '[]') from oldest), timeline.at) s
  where exists (select from own)
$f$;

-- Every pattern that could match a topic: each level as it is or `*`, and after any number of levels `#`. 23 for three levels, 767 for eight.
-- Subscriptions are found by equality with these: 5,000 of them and 1,000 events took 45 ms, 500 with regular expressions 4.9 s.
create function orchestratum.topic_patterns(topic text)
returns setof text
language plpgsql immutable
as $f$
declare
  prefixes text[] := '{""}';
  level text;
begin
  foreach level in array string_to_array(topic, '.') loop
    return query select p || '#' from unnest(prefixes) p;
    prefixes := array(select p || v || '.' from unnest(prefixes) p cross join (values (level), ('*')) as level (v));
  end loop;
  return query select p || '#' from unnest(prefixes) p;
  return query select left(p, -1) from unnest(prefixes) p;
end $f$;

-- One more entry in a trail, which keeps 100: the first and the newest.
create function orchestratum.trail_add(trail jsonb, entry jsonb)
returns jsonb
language sql immutable
as $f$
  select case when jsonb_array_length(trail) >= 100 then (trail - 1) || entry else coalesce(trail, '[]') || entry end
$f$;

-- The trail of a command whose lease ended without a word: with one more entry, of that attempt, where it had one.
create function orchestratum.trail_lost(command orchestratum.command, ended_at timestamptz)
returns jsonb
language sql stable
as $f$
  select
    case
      when command.leased_by is null then command.trail
      else orchestratum.trail_add(command.trail, jsonb_build_object(
        'code', 'lost', 'message', 'Its lease ended without a word', 'fence', command.fence, 'attempt', command.attempt,
        'worker', command.leased_by, 'started_at', command.started_at, 'ended_at', ended_at))
    end
$f$;

-- The whole chain that a command belongs to: from the oldest ancestor that is still there, all descendants, max_count of them at most.
-- Summaries, and in each row the first one's id as `root`. Nothing where the command is not there.
-- Parents that SQL has tied to a ring end it: upwards no command comes twice, and downwards none is looked at again.
-- Finished children are found by history_parent, through all levels at once. Live ones have no index by parent (see timeline) and take one read
-- of the table, hashed, for all that is known by then; what they lead to is the next turn. A command has its follow-ups when it has ended, so
-- two turns are the rule. Nested loops and merges are off for that hash, and remain where there is no other way.
-- The recursions are lazy: `limit` ends them after as many rows, however many there would be.
create function orchestratum.tree(command uuid, max_count int, at timestamptz default clock_timestamp())
returns table (
  root text,
  id text, name text, version smallint, hook text, queue text, priority smallint, status text, attempt smallint, max_attempts smallint,
  worker text, parent_id text, correlation_id text, created_at text, due_at text, available_at text, started_at text, finished_at text,
  error_code text, error_message text
)
language plpgsql stable
set enable_seqscan = off set enable_bitmapscan = off set enable_nestloop = off set enable_mergejoin = off set jit = off
set datestyle = 'ISO' set timezone = 'UTC'
as $f$
#variable_conflict use_column
declare
  top uuid;
  nodes uuid[] := '{}';
  fresh uuid[];
begin
  with recursive ancestor as (
    select known.id, known.parent_id, array[known.id] as path
    from (select tree.command as id) asked
    cross join lateral (
      select c.id, c.parent_id from orchestratum.command c where c.id = asked.id
      union all
      select h.id, h.parent_id from orchestratum.history h where h.id = asked.id
      limit 1
    ) known
    union all
    select known.id, known.parent_id, a.path || known.id
    from ancestor a
    cross join lateral (
      select c.id, c.parent_id from orchestratum.command c where c.id = a.parent_id
      union all
      select h.id, h.parent_id from orchestratum.history h where h.id = a.parent_id
      limit 1
    ) known
    where known.id <> all (a.path)
      and cardinality(a.path) < tree.max_count
  )
  select a.id into top from ancestor a order by cardinality(a.path) desc limit 1;

  fresh := array[top];
  while top is not null and cardinality(fresh) > 0 and cardinality(nodes) < tree.max_count loop
    with recursive chain as (
      select v as id from unnest(fresh) v
      union
      select past.id
      from chain
      cross join lateral (select h.id from orchestratum.history h where h.parent_id = chain.id limit tree.max_count) past
    )
    select coalesce(array_agg(x.id), '{}')
    into fresh
    from (select chain.id from chain limit tree.max_count) x
    where x.id <> all (nodes);
    nodes := nodes || fresh;

    select coalesce(array_agg(x.id), '{}')
    into fresh
    from (
      select c.id
      from unnest(fresh) v
      join orchestratum.command c on c.parent_id = v
      order by c.created_at, c.id
      limit tree.max_count
    ) x
    where x.id <> all (nodes);
  end loop;

  return query
  select
    top::text, s.id, s.name, s.version, s.hook, s.queue, s.priority, s.status, s.attempt, s.max_attempts, s.worker, s.parent_id, s.correlation_id,
    s.created_at, s.due_at, s.available_at, s.started_at, s.finished_at, s.error_code, s.error_message
  from orchestratum.summarise(array_to_json(nodes[:tree.max_count]), tree.at) s
  where top is not null;
end $f$;

-- For those who wait for the end of commands. ids: ["…"]. Answers for each 'waiting' (it is marked: its finish will say that somebody waits,
-- and be followed by a notification), 'busy' (somebody has it locked: ask again), 'finished' with how it ended, or 'unknown'.
-- The row's lock decides: either the finish sees the mark, or this sees history. It waits for no row lock, and marks each row once.
create function orchestratum.wait_for(ids json)
returns table (id text, result text, name text, version smallint, status text, output text, trail text, finished_at text)
language plpgsql volatile
set enable_seqscan = off set enable_bitmapscan = off set jit = off set plan_cache_mode = force_generic_plan set datestyle = 'ISO' set timezone = 'UTC'
as $f$
#variable_conflict use_column
declare
  marked uuid[];
begin
  perform orchestratum.require_read_committed();
  with locked as materialized (
    select l.*
    from (select distinct v::uuid as id from json_array_elements_text(wait_for.ids) v) asked
    cross join lateral (
      select c.ctid as row
      from orchestratum.command c
      where c.id = asked.id and not c.awaited
      for update skip locked
    ) l
  ),
  changed as (
    update orchestratum.command c
    set awaited = true
    from locked
    where c.ctid = locked.row
    returning c.id
  )
  select array_agg(x.id) into marked from changed x;

  return query
  select
    asked.id::text,
    case
      when past.id is not null then 'finished'
      when live.awaited or asked.id = any (marked) then 'waiting'
      when live.id is not null then 'busy'
      else 'unknown'
    end,
    coalesce(past.name, live.name), coalesce(past.version, live.version), past.status, past.output::text, past.trail::text,
    past.finished_at::text
  from (select distinct v::uuid as id from json_array_elements_text(wait_for.ids) v) asked
  left join lateral (
    select c.id, c.name, c.version, c.awaited from orchestratum.command c where c.id = asked.id limit 1
  ) live on true
  left join lateral (
    select h.id, h.name, h.version, h.status, h.output, h.trail, h.finished_at from orchestratum.history h where h.id = asked.id limit 1
  ) past on true;
end $f$;

-- Gives the new functions the rights that before_functions.sql found, by name, and records which functions these are.
--
-- What a function's own file takes from PUBLIC stays taken, and so does what an operator took: nothing is ever granted to
-- PUBLIC here. Functions belong to the schema's owner, as far as the one who migrates may decide it: a superuser who
-- upgrades once must not lend its rights to a function that runs with its owner's.
do $$
declare
  created record;
  rights json;
  granted record;
begin
  for created in
    select p.proname as name, p.oid::regprocedure as signature, p.proowner as owner, n.nspowner as wanted_owner
    from pg_proc p
    join pg_namespace n on n.oid = p.pronamespace
    where p.pronamespace = 'orchestratum'::regnamespace
      and p.prokind = 'f'
  loop
    if created.owner <> created.wanted_owner and pg_has_role(created.wanted_owner, 'member') then
      execute format('alter function %s owner to %s', created.signature, created.wanted_owner::regrole);
    end if;

    rights := current_setting('orchestratum_migration.rights')::json -> created.name::text;
    if not (rights ->> 'public')::boolean then
      execute format('revoke execute on function %s from public', created.signature);
    end if;
    for granted in
      select g.role, g.grantable from json_to_recordset(rights -> 'grants') as g (role text, grantable boolean)
    loop
      execute format(
        'grant execute on function %s to %I%s',
        created.signature, granted.role, case when granted.grantable then ' with grant option' else '' end
      );
    end loop;
  end loop;

  update orchestratum.setting set functions_hash = '0.1.0 af3b896b9854e85ae567eab020ab18ec01e6a782178ae7b5659d71142d978863';
end $$;

commit;
