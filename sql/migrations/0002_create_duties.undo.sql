drop table orchestratum.duty;
drop table orchestratum.handler;
delete from orchestratum.migration where version = 2;
