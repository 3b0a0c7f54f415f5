drop table orchestratum.paused_queue;
drop table orchestratum.act;
delete from orchestratum.migration where version = 6;
