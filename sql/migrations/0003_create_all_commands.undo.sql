drop view orchestratum.all_commands;
delete from orchestratum.migration where version = 3;
