-- The deliveries of an event ($1) of this topic ($2) that was appended then ($3); one row in any case, without a subscription where there is
-- none. `is_dropped`: a dead letter among them was, or may have been, dropped since: a subscription has no delivery, and an act names it, or what
-- the act tells (the first 20 ids, or a filter) does not rule it out while the subscription would get the event today, or has been removed since.
-- `is_expired`: the event is older than what history keeps, so that deliveries of it may be gone.
with delivery as materialized (
  select d.subscription, d.id, d.status, d.attempt, d.max_attempts, d.finished_at, d.trail
  from orchestratum.event_deliveries($1::text::uuid) d
),
drops as materialized (
  select a.target -> 'ids' as ids, a.target -> 'filter' ->> 'name' as name, a.target -> 'ids' is null or a.affected > 20 as is_vague
  from orchestratum.act a
  where a.kind = 'drop' and a.at >= $3::text::timestamptz
),
whole as (
  select
    exists (
      select
      from drops
      cross join orchestratum.subscription s
      where not exists (select from delivery d where d.subscription = s.name)
        and (
          exists (
            select
            from json_array_elements_text(drops.ids) v
            where v = orchestratum.delivery_id($1::text::uuid, s.name)::text
          )
          or drops.is_vague
          and coalesce(drops.name, 'deliver:' || s.name) = 'deliver:' || s.name
          and s.added_at < $3::text::timestamptz + interval '1 millisecond'  -- $3 is cut to milliseconds
          and (
            s.removed_at >= $3::text::timestamptz
            or exists (
              select
              from orchestratum.subscription_pattern p
              where p.subscription = s.name and p.pattern in (select v from orchestratum.topic_patterns($2::text) v)
            )
          )
        )
    ) as is_dropped,
    (
      select $3::text::timestamptz < (select clock_timestamp()) - least(s.keep_succeeded, s.keep_other)
      from orchestratum.setting s
    ) as is_expired
)
select d.subscription, d.id, d.status, d.attempt, d.max_attempts, d.finished_at, d.trail, whole.is_dropped, whole.is_expired
from whole
left join delivery d on true
order by d.subscription
