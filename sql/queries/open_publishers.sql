-- The open transactions that have looked for subscriptions, and so may have published without seeing one that has been committed since.
-- Those of $1 (["…"]; null: all) that are still open.
select l.virtualtransaction as transaction, l.pid::int as pid
from pg_locks l
where l.locktype = 'relation'
  and l.relation = 'orchestratum.subscription_pattern'::regclass
  and l.database = (select d.oid from pg_database d where d.datname = current_database())
  and l.pid is distinct from pg_backend_pid()
  and ($1::text is null or l.virtualtransaction in (select v from json_array_elements_text($1::text::json) v))
