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
