-- The newest acts of operators, at most $1.
select a.id::text as id, a.at::text as at, a.by_whom, a.kind, a.target::text as target, a.affected
from orchestratum.act a
order by a.id desc
limit $1::int
