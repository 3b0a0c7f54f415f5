-- How it stands with every reader: who reads for it, how far it is behind, and `late_ms`, how long the first event that it has not dealt with has
-- been in the log. `keeps`: a slot of events that is past its retention is not emptied, since this reader has not dealt with all of it.
select
  r.name, r.generation, r.building, r.paused_at is not null as paused,
  case when r.leased_by <> 'switch' and r.available_at > clock.at then r.leased_by end as holder,
  greatest(h.position - r.position, 0)::float8 as lag,
  (extract(epoch from clock.at - next.appended_at) * 1000)::float8 as late_ms,
  r.failures, r.last_error,
  (extract(epoch from clock.at - r.last_failed_at) * 1000)::float8 as failed_ms_ago,
  coalesce(r.position < past.position, false) as keeps
from orchestratum.reader r
cross join orchestratum.event_head h
cross join (select clock_timestamp() as at) clock
cross join (
  select max(newest.position) as position
  from (select (select clock_timestamp()) - s.keep_events as kept_from from orchestratum.setting s) kept
  cross join generate_series(1, 16) ring (slot)
  cross join lateral (
    select
      (select e.appended_at from orchestratum.event e where e.slot = ring.slot order by e.appended_at desc limit 1) as appended_at,
      (select x.position from orchestratum.event_position x where x.slot = ring.slot order by x.position desc limit 1) as position
  ) newest
  where newest.appended_at < kept.kept_from
) past
left join lateral (
  select (select e.appended_at from orchestratum.event e where e.id = p.event_id and e.slot = p.slot limit 1) as appended_at
  from (
    select x.event_id, x.slot from orchestratum.event_position x where x.position > r.position order by x.position limit 1
  ) p
) next on true
order by r.name, r.generation
