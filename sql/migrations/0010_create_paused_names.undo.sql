drop index orchestratum.act_corrected;
drop table orchestratum.paused_name;
delete from orchestratum.migration where version = 10;
