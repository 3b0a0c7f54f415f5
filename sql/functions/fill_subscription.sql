-- Delivers to one subscription what is in the log after a position, up to `until`, at most `max_count` events of it. Answers the position that
-- it came to, and in rows without one what to hint at. Can be repeated, and meets live deliveries: their ids are the same.
-- Only events that it has a pattern for go into the one JSON text, and large ones without their data, of which a delivery has no copy
-- either: 500 events of the log are not more than a few MB of it. Patterns are looked up once a topic.
create function orchestratum.fill_subscription(
  subscription text, after bigint, until bigint, max_count int, at timestamptz default clock_timestamp()
)
returns table (reached text, queue text, available_at text)
language plpgsql volatile
set enable_seqscan = off set enable_bitmapscan = off set enable_sort = off set jit = off
as $f$
#variable_conflict use_column
declare
  last bigint;
  events json;
begin
  perform orchestratum.require_read_committed();
  with place as materialized (
    select p.position, p.event_id
    from orchestratum.event_position p
    where p.position > fill_subscription.after and p.position <= fill_subscription.until
    order by p.position
    limit fill_subscription.max_count
  ),
  found as materialized (
    select place.position, e.*
    from place
    cross join lateral (
      select x.id, x.topic, x.stream, x.version, x.data, x.metadata, x.appended_at
      from orchestratum.event x
      where x.id = place.event_id
      limit 1
    ) e
  ),
  wanted as materialized (
    select topic.topic
    from (select distinct found.topic from found) topic
    where exists (
      select
      from orchestratum.topic_patterns(topic.topic) p (pattern)
      cross join lateral (
        select s.subscription
        from orchestratum.subscription_pattern s
        where s.pattern = p.pattern and s.subscription = fill_subscription.subscription
        limit 1
      ) one
    )
  ),
  chosen as materialized (
    select found.*, coalesce(octet_length(found.data::text), 0) + coalesce(octet_length(found.metadata::text), 0) > 8192 as is_large
    from found
    where found.topic in (select wanted.topic from wanted)
  )
  select
    (select max(place.position) from place),
    (
      select json_agg(json_build_object(
        'id', c.id, 'topic', c.topic, 'stream', c.stream, 'version', c.version, 'data', case when not c.is_large then c.data end,
        'null_data', c.data::text = 'null', 'is_large', c.is_large, 'metadata', c.metadata, 'appended_at', c.appended_at
      ) order by c.position)
      from chosen c
    )
  into last, events;
  return query select coalesce(last, fill_subscription.until)::text, null::text, null::text;
  if events is not null then
    return query
    select null::text, d.queue, d.available_at
    from orchestratum.deliver(events, null, null, fill_subscription.at, fill_subscription.subscription, true) d;
  end if;
end $f$;
