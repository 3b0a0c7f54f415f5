-- Commands by their ids, live or finished, with everything that is known of them. ids: ["…"]; what is not there is not answered.
-- A function in this shape, not the view: found by id in lateral subqueries that cannot be pulled up, so that no plan can read a whole index
-- for every row. Statuses as in the view all_commands.
create function orchestratum.get(ids json, at timestamptz default clock_timestamp())
returns table (
  id text, name text, version smallint, hook text, queue text, priority smallint, status text, input text, output text, progress text,
  metadata text, trail text, fence int, attempt smallint, max_attempts smallint, losses smallint, timeout_ms int, worker text, parent_id text,
  created_at text, due_at text, available_at text, started_at text, finished_at text, cancel_requested_at text, unknown_since text
)
language sql stable
set enable_seqscan = off set enable_bitmapscan = off set jit = off set plan_cache_mode = force_generic_plan set datestyle = 'ISO' set timezone = 'UTC'
as $f$
  select
    one.id::text, one.name, one.version, one.hook, one.queue, one.priority, one.status, one.input::text, one.output::text, one.progress::text,
    one.metadata::text, one.trail::text, one.fence, one.attempt, one.max_attempts, one.losses, one.timeout_ms, one.worker, one.parent_id::text,
    one.created_at::text, one.due_at::text, one.available_at::text, one.started_at::text, one.finished_at::text,
    one.cancel_requested_at::text, one.unknown_since::text
  from (select distinct v::uuid as id from json_array_elements_text(get.ids) v) asked
  cross join lateral (
    select *
    from (
      select *
      from (
        select
          c.id, c.name, c.version, c.hook, c.queue, c.priority,
          case when c.available_at <= get.at then 'pending' when c.leased_by is null then 'scheduled' else 'running' end as status,
          c.input, null::json as output, c.progress, c.metadata, c.trail, c.fence,
          least(c.attempt, c.max_attempts) as attempt, c.max_attempts, c.losses, c.timeout_ms, c.leased_by as worker, c.parent_id,
          c.created_at, c.due_at, c.available_at, c.started_at, null::timestamptz as finished_at, c.cancel_requested_at, c.unknown_since
        from orchestratum.command c
        where c.id = asked.id
        limit 1
      ) live
      union all
      select *
      from (
        select
          h.id, h.name, h.version, h.hook, h.queue, h.priority, h.status, h.input, h.output, null::json, h.metadata, h.trail, h.fence,
          h.attempt, h.max_attempts, h.losses, h.timeout_ms, h.worker, h.parent_id,
          h.created_at, h.due_at, null::timestamptz, h.started_at, h.finished_at, h.cancel_requested_at, null::timestamptz
        from orchestratum.history h
        where h.id = asked.id
        limit 1
      ) past
    ) either
    limit 1
  ) one
$f$;
