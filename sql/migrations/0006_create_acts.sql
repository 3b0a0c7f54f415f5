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
