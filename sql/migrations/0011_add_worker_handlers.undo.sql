alter table orchestratum.worker drop column handlers;
delete from orchestratum.migration where version = 11;
