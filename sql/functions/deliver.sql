-- Pushes one command for each of these events and each subscription that has a pattern for its topic: a delivery.
--
-- events: [{"id", "topic", "data" (or "null_data"), "metadata", "parent_id"}], and where they are not appended just now "stream", "version" and
-- "appended_at", and "is_large" where its data was left out for that; version: of the last of those that are. A delivery has a copy of an event of up to 8 KiB, else its id.
-- only_to: one subscription. repeat: some may have been delivered before; what has finished meanwhile is taken out after the insert, as in
-- push_batch. Answers what to hint at: the queue, and from when.
-- Patterns are looked up once a topic, in subqueries that cannot be pulled up: no plan reads all subscriptions.
-- In the order of their ids, so that two batches with the same deliveries wait for each other in one direction only.
create function orchestratum.deliver(
  events json, stream text, version int, at timestamptz, only_to text default null, repeat boolean default false
)
returns table (queue text, available_at text)
language plpgsql volatile
set enable_seqscan = off set enable_bitmapscan = off set jit = off set plan_cache_mode = force_generic_plan
set datestyle = 'ISO' set timezone = 'UTC'
as $f$
#variable_conflict use_column
declare
  size int := json_array_length(events);
  fresh uuid[];
  dues json;
begin
  with asked as materialized (
    select e.*
    from rows from (
      json_to_recordset(deliver.events) as (
        id uuid, topic text, data json, null_data boolean, metadata json, parent_id uuid, stream text, version int, appended_at timestamptz,
        is_large boolean
      )
    ) with ordinality as e (id, topic, data, null_data, metadata, parent_id, stream, version, appended_at, is_large, place)
  ),
  found as (
    select distinct topic.topic, x.subscription
    from (select distinct asked.topic from asked) topic
    cross join lateral orchestratum.topic_patterns(topic.topic) p (pattern)
    cross join lateral (
      select s.subscription
      from orchestratum.subscription_pattern s
      where s.pattern = p.pattern
      offset 0
    ) x
    where deliver.only_to is null or x.subscription = deliver.only_to
  ),
  matched as materialized (
    select found.topic, s.*
    from found
    cross join lateral (
      select s.name, s.queue, s.priority, s.max_attempts, s.timeout_ms from orchestratum.subscription s where s.name = found.subscription limit 1
    ) s
  ),
  carried as materialized (
    select
      a.id, a.topic, a.place, a.parent_id, orchestratum.hook_metadata(a.metadata, a.id) as metadata,
      case
        when a.is_large or coalesce(octet_length(a.data::text), 0) + coalesce(octet_length(a.metadata::text), 0) > 8192
        then json_build_object('id', a.id, 'topic', a.topic, 'stored', true)
        -- As text: what there is not is left out, and json_strip_nulls would reach into the data.
        else (
          '{"id":"' || a.id || '","topic":' || to_json(a.topic)
          || coalesce(
            ',"stream":' || to_json(coalesce(a.stream, deliver.stream)) || ',"version":' || coalesce(a.version, deliver.version - size + a.place), ''
          )
          || coalesce(',"data":' || case when a.null_data then 'null' else a.data::text end, '')
          || coalesce(',"metadata":' || a.metadata, '')
          || ',"appended_at":' || to_json(coalesce(a.appended_at, deliver.at)) || '}'
        )::json
      end as input
    from asked a
    where a.topic in (select matched.topic from matched)
  ),
  pushed as (
    insert into orchestratum.command (
      id, name, version, queue, priority, due_at, available_at, max_attempts, timeout_ms, parent_id, input, metadata, created_at
    )
    select
      d.id, d.name, 1, d.queue, d.priority, deliver.at, deliver.at + (d.place - 1) * interval '1 microsecond', d.max_attempts, d.timeout_ms,
      d.parent_id, d.input, d.metadata, deliver.at
    from (
      select
        orchestratum.delivery_id(c.id, m.name) as id, 'deliver:' || m.name as name, m.queue, m.priority, m.max_attempts, m.timeout_ms,
        c.parent_id, c.input, c.metadata, row_number() over (order by c.place, m.name) as place
      from carried c
      join matched m on m.topic = c.topic
    ) d
    order by d.id
    on conflict (id) do nothing
    returning command.id, command.queue, command.available_at
  )
  select
    (select array_agg(pushed.id) from pushed where deliver.repeat),
    (
      select json_agg(due)
      from (select pushed.queue, min(pushed.available_at) as available_at from pushed group by pushed.queue) due
    )
  into fresh, dues;

  if deliver.repeat then
    delete from orchestratum.command c
    where c.id = any (array(
      select f.id
      from unnest(fresh) f (id)
      cross join lateral (select from orchestratum.history h where h.id = f.id limit 1) past
    ));
  end if;
  return query select d.queue, d.available_at::text from json_to_recordset(dues) as d (queue text, available_at timestamptz);
end $f$;
