-- The deliveries of an event ($1) of this topic ($2) that was appended then ($3); one row in any case, without a subscription where there is
-- none. `is_dropped`: a dead letter among them was, or may have been, dropped since: a subscription has no delivery, and an act names it, or what
-- the act tells (the first 20 ids, or a filter) does not rule it out while the subscription was there by then, and would get the event today, or
-- has been removed since.
-- `is_expired`: the event is older than what history keeps, so that deliveries of it may be gone.
-- Acts are kept for ever, so what they tell is gone through once: by an intersection, since `in`, planned for its first row, goes through all ids
-- for each subscription (1,000 acts and 200 subscriptions: 2 s instead of 40 ms).
with delivery as materialized (
  select d.subscription, d.id, d.status, d.attempt, d.max_attempts, d.finished_at, d.trail
  from orchestratum.event_deliveries($1::text::uuid) d
),
drops as materialized (
  select
    a.at, a.target -> 'ids' as ids, a.target -> 'filter' ->> 'name' as name, a.target -> 'ids' is null or a.affected > 20 as is_vague
  from orchestratum.act a
  where a.kind = 'drop' and a.at >= $3::text::timestamptz
),
vague as materialized (
  select drops.name, max(drops.at) as at
  from drops
  where drops.is_vague
  group by drops.name
),
missing as materialized (
  select s.name, orchestratum.delivery_id($1::text::uuid, s.name)::text as id, s.added_at, s.removed_at
  from orchestratum.subscription s
  where exists (select from drops)
    and not exists (select from delivery d where d.subscription = s.name)
),
whole as (
  select
    exists (
      select missing.id
      from missing
      intersect
      select v
      from drops
      cross join lateral json_array_elements_text(drops.ids) v
    )
    or exists (
      select
      from missing
      left join vague own on own.name = 'deliver:' || missing.name
      left join vague nameless on nameless.name is null
      where missing.added_at <= greatest(own.at, nameless.at)
        and (
          missing.removed_at >= $3::text::timestamptz
          or missing.name in (
            select p.subscription
            from orchestratum.subscription_pattern p
            where p.pattern in (select v from orchestratum.topic_patterns($2::text) v)
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
