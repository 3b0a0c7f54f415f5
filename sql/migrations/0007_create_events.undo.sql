delete from orchestratum.act where kind = 'drop';
alter table orchestratum.act drop constraint act_kind_check;
alter table orchestratum.act add constraint act_kind_check
  check (kind in ('cancel', 'retry', 'edit', 'reschedule', 'reprioritise', 'erase', 'pause', 'resume'));
drop table orchestratum.subscription_pattern;
drop table orchestratum.subscription;
drop table orchestratum.event_head;
drop table orchestratum.event_position;
drop table orchestratum.event_inbox;
drop table orchestratum.event;
drop table orchestratum.stream;
delete from orchestratum.migration where version = 7;
