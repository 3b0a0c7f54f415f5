drop table orchestratum.statistic_worker;
drop table orchestratum.statistic;
drop table orchestratum.statistic_fold;
delete from orchestratum.duty where name = 'statistics';
delete from orchestratum.migration where version = 5;
