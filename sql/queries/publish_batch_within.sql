-- The same within the caller's transaction, with that transaction's id: its commit is watched for, so that hints can follow it.
select queue, available_at, (select pg_current_xact_id()::text) as transaction_id
from orchestratum.publish_batch($1::text::json, $2::boolean)
