-- The slot that takes new events although it still has some that are past their retention: these stay for another turn of the ring. A
-- reader that is far behind is the reason, or a transaction that holds the slot's lock for hours.
select turn.slot, (select e.appended_at from orchestratum.event e where e.slot = turn.slot order by e.appended_at limit 1)::text as oldest
from (
  select orchestratum.event_slot((select clock_timestamp())) as slot, (select clock_timestamp()) - s.keep_events as kept_from
  from orchestratum.setting s
) turn
where turn.slot > 0
  and (select e.appended_at from orchestratum.event e where e.slot = turn.slot order by e.appended_at limit 1) < turn.kept_from
