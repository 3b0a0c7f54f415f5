-- What a worker can execute, beside what it serves: a queue may be served by workers that have no handler for what waits in it.
insert into orchestratum.migration (version, name) values (11, 'add_worker_handlers');

-- [{"name", "version", "upgrades"}]; null: it is of a release that does not say.
alter table orchestratum.worker add column handlers json;
