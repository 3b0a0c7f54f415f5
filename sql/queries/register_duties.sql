-- Makes duties ($1: ["…"]) known; those that are keep their turn.
insert into orchestratum.duty (name, next_run_at)
select v, (select clock_timestamp())
from json_array_elements_text($1::text::json) v
order by v
on conflict (name) do nothing
