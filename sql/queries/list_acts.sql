-- The newest acts of operators, at most $1.
select a.id::text as id, (to_json(a.at at time zone 'UTC') #>> '{}') || 'Z' as at, a.by_whom, a.kind, a.target::text as target, a.affected
from orchestratum.act a
order by a.id desc
limit $1::int
