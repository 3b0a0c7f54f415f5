-- Every reader, by name and generation, with how far it has come and who reads for it. What is not placed yet is counted up to 10,000.
select
  r.name, r.generation, r.building, r.position::text,
  (greatest(h.position - r.position, 0) + (select count(*) from (select from orchestratum.event_inbox i limit 10000) unplaced))::float8 as lag,
  case when r.leased_by <> 'switch' and r.available_at > clock.at then r.leased_by end as holder,
  (extract(epoch from r.paused_at) * 1000)::float8 as paused_at_ms,
  r.failures, r.last_error,
  (extract(epoch from r.last_failed_at) * 1000)::float8 as last_failed_at_ms,
  case when r.leased_by is null and r.available_at > clock.at then (extract(epoch from r.available_at) * 1000)::float8 end as retry_at_ms,
  (extract(epoch from r.checkpoint_at) * 1000)::float8 as checkpoint_at_ms,
  (extract(epoch from r.created_at) * 1000)::float8 as created_at_ms
from orchestratum.reader r
cross join orchestratum.event_head h
cross join (select clock_timestamp() as at) clock
order by r.name, r.generation
