do $$
begin
  for slot in 1..16 loop
    execute format('drop index orchestratum.event_%s_appended', slot);
  end loop;
end $$;
alter table orchestratum.setting drop column keep_events;
drop table orchestratum.reader;
delete from orchestratum.migration where version = 8;
