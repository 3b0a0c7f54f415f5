-- Reads a stream. $1 its name, $2 from which version or null, $3 whether backwards, $4 how many events at most.
select id, stream_name as stream, version, topic, data, metadata, appended_at, cut
from orchestratum.read_stream($1::text, $2::int, $3::boolean, $4::int)
