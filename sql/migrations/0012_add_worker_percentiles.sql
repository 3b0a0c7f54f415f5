-- Percentiles of workers, as queues and names have them: how long what a worker ended had waited, and how long it ran.
insert into orchestratum.migration (version, name) values (12, 'add_worker_percentiles');

alter table orchestratum.statistic_worker
  add column waiting_ms double precision not null default 0,
  add column waiting jsonb not null default '{}',
  add column execution jsonb not null default '{}';
