-- The version of a stream ($1); no row where there is none.
select s.version from orchestratum.stream s where s.name = $1::text
