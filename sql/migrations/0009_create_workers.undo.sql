drop view orchestratum.all_duties;
drop view orchestratum.all_queues;
drop view orchestratum.all_workers;
drop table orchestratum.worker;
delete from orchestratum.migration where version = 9;
