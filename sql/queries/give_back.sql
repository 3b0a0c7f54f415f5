-- Hands back what a lost reply had leased. $1 worker, $2 lanes, $3 the leases that it knows of, $4 lease in ms.
select orchestratum.give_back($1::text, $2::text::json, $3::text::json, $4::int) as count
