drop table orchestratum.paused_queue;
alter table orchestratum.history drop column erased_at;
drop table orchestratum.act;
delete from orchestratum.migration where version = 6;
