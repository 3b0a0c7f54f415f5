-- The same, where these very events may have been appended before.
select version, queue, available_at, (select pg_current_xact_id()::text) as transaction_id
from orchestratum.append_again($1::text, $2::int, $3::text::json)
