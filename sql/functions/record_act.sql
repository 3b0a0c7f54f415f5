-- Notes what an operator did to these commands; nothing where it was none. A target that is not given is their ids, the first 20 of them:
-- `affected` says how many there are.
create function orchestratum.record_act(at timestamptz, by_whom text, kind text, target json, affected uuid[])
returns void
language sql volatile
as $f$
  insert into orchestratum.act (at, by_whom, kind, target, affected)
  select
    record_act.at, record_act.by_whom, record_act.kind,
    coalesce(record_act.target, json_build_object('ids', to_json(record_act.affected[1:20]))),
    cardinality(record_act.affected)
  where cardinality(record_act.affected) > 0
$f$;
