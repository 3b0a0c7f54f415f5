-- Hands back a duty that was taken and not begun: it is due as before. $1 worker, $2 name, $3 fence.
update orchestratum.duty d
set leased_by = null,
    lease_ends_at = null
where d.name = $2::text and d.fence = $3::int and d.leased_by = $1::text
returning d.name
