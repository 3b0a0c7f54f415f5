-- Commands that are paused by their name, whatever their queue; and finding whether an operator corrected a command's input.
insert into orchestratum.migration (version, name) values (10, 'create_paused_names');

-- Workers put commands of these names off, as they do with names that nobody knows.
create table orchestratum.paused_name (
  name text primary key,
  paused_at timestamptz not null,
  paused_by text check (char_length(paused_by) between 1 and 200)  -- null: nobody said
);

-- Of the acts that gave a command another input: each of them names one command.
create index act_corrected on orchestratum.act ((target -> 'ids' ->> 0)) where target ->> 'corrected' is not null;
