-- Slots that take new rows although they still hold some that are past their retention: these stay for another turn of the ring. Readers that
-- hold a slot's lock for hours are the reason.
select ring.slot, ring.oldest::text as oldest
from (
  select
    turn.slot,
    (select h.finished_at from orchestratum.history h where h.slot = turn.slot order by h.finished_at limit 1) as oldest,
    turn.keep
  from (
    select orchestratum.history_slot((select clock_timestamp()), true) as slot, s.keep_succeeded as keep from orchestratum.setting s
    union all
    select orchestratum.history_slot((select clock_timestamp()), false), s.keep_other from orchestratum.setting s
  ) turn
) ring
where ring.oldest < (select clock_timestamp()) - ring.keep
