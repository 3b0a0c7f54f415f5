-- The database's clock, in ms since 1970, rounded up: what is there already was created by then.
select ceil(extract(epoch from (select clock_timestamp())) * 1000)::float8 as ms
