drop index orchestratum.history_correlation;
drop index orchestratum.history_parent;
delete from orchestratum.migration where version = 4;
