-- Records the end of a duty's run, where the lease is still this one's. $1 worker, $2 name, $3 fence, $4 next run in ms from now,
-- $5 how long it took in ms, $6 error or null.
update orchestratum.duty d
set next_run_at = (select clock_timestamp()) + $4::float8 * interval '1 millisecond',
    leased_by = null,
    lease_ends_at = null,
    last_finished_at = (select clock_timestamp()),
    last_duration_ms = $5::float8,
    last_worker = $1::text,
    last_error = $6::text
where d.name = $2::text and d.fence = $3::int and d.leased_by = $1::text
returning d.name
