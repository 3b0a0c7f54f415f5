-- Appends to several streams ($1) within the caller's transaction: functions/append_all.sql says how.
select stream, version, conflict, queue, available_at, (select pg_current_xact_id()::text) as transaction_id
from orchestratum.append_all($1::text::json)
