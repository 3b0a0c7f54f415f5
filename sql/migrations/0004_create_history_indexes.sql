-- What lists, timelines and trees look for among finished commands: whose follow-up, and of which chain.
insert into orchestratum.migration (version, name) values (4, 'create_history_indexes');

create index history_parent on orchestratum.history (parent_id) where parent_id is not null;

-- The first command of a chain has its own id as correlation id, and does not write it down; most have no metadata, and are in no index here.
-- An index that refuses a row would keep its command from ever ending. So metadata with an escape such as \u0000, for which ->> raises an
-- error, has no key here, and long texts, for which a page has no room, are cut. The function that looks by it has this expression to the letter.
-- Its condition is a plain one, since it is asked for every row; and it sorts by bytes, which costs less than a language's order and stays the same
-- when the operating system changes that.
create index history_correlation on orchestratum.history (
  (
    case
      when strpos(metadata::text, '\u') = 0 or strpos(replace(metadata::text, '\\', ''), '\u') = 0 then left(metadata ->> 'correlationId', 200)
    end
  ) collate "C"
)
where metadata is not null;
