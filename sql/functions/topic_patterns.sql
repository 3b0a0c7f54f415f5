-- Every pattern that could match a topic: each level as it is or `*`, and after any number of levels `#`. 23 for three levels, 767 for eight.
-- Subscriptions are found by equality with these: 5,000 of them and 1,000 events took 45 ms, 500 with regular expressions 4.9 s.
create function orchestratum.topic_patterns(topic text)
returns setof text
language plpgsql immutable
as $f$
declare
  prefixes text[] := '{""}';
  level text;
begin
  foreach level in array string_to_array(topic, '.') loop
    return query select p || '#' from unnest(prefixes) p;
    prefixes := array(select p || v || '.' from unnest(prefixes) p cross join (values (level), ('*')) as level (v));
  end loop;
  return query select p || '#' from unnest(prefixes) p;
  return query select left(p, -1) from unnest(prefixes) p;
end $f$;
