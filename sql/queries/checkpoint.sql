-- A reader's checkpoint within its handler's own transaction. $1 name, $2 generation, $3 process, $4 fence, $5 position.
select orchestratum.checkpoint($1::text, $2::int, $3::text, $4::int, $5::text::bigint) as accepted
