-- Appends events ($3) to a stream ($1) that is at a version ($2; null: any). With the transaction's id, for hints after a caller's commit.
select version, queue, available_at, (select pg_current_xact_id()::text) as transaction_id
from orchestratum.append($1::text, $2::int, $3::text::json)
