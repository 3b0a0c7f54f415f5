alter table orchestratum.statistic_worker drop column execution, drop column waiting, drop column waiting_ms;
delete from orchestratum.migration where version = 12;
