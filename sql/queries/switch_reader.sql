-- Puts a rebuilt generation in use: functions/switch_reader.sql says how. $1 name, $2 generation, $3 process, $4 fence.
select orchestratum.switch_reader($1::text, $2::int, $3::text, $4::int) as result
