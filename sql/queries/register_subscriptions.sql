-- Says which subscriptions there are ($1); $2 mode: functions/register_subscriptions.sql says which.
select orchestratum.register_subscriptions($1::text::json, $2::text) as written
