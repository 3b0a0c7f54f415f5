-- A command and, behind it, the oldest of what it caused: its hooks and follow-ups, max_children of them at most. Summaries; of the command itself
-- with the number of its newest lease and its trail. Nothing where it is not there.
-- Children that have finished are found by history_parent. No index of live commands has the parent, and none is worth its cost at each push
-- and claim: those are looked for in the whole table, once.
create function orchestratum.timeline(command uuid, max_children int, at timestamptz default clock_timestamp())
returns table (
  id text, name text, version smallint, hook text, queue text, priority smallint, status text, attempt smallint, max_attempts smallint,
  worker text, parent_id text, correlation_id text, created_at text, due_at text, available_at text, started_at text, finished_at text,
  error_code text, error_message text, fence int, trail text
)
language sql stable
set enable_seqscan = off set enable_bitmapscan = off set jit = off set datestyle = 'ISO' set timezone = 'UTC'
as $f$
  with own as materialized (
    select either.fence, either.trail
    from (
      select *
      from (select c.fence, c.trail from orchestratum.command c where c.id = timeline.command limit 1) live
      union all
      select *
      from (select h.fence, h.trail from orchestratum.history h where h.id = timeline.command limit 1) past
    ) either
    limit 1
  ),
  child as materialized (
    select c.id, c.created_at
    from orchestratum.command c
    where c.parent_id = timeline.command and c.id <> timeline.command
    union all
    select h.id, h.created_at
    from orchestratum.history h
    where h.parent_id = timeline.command and h.id <> timeline.command
  ),
  oldest as materialized (
    select child.id, child.created_at
    from child
    order by child.created_at, child.id
    limit timeline.max_children
  )
  select
    s.id, s.name, s.version, s.hook, s.queue, s.priority, s.status, s.attempt, s.max_attempts, s.worker, s.parent_id, s.correlation_id,
    s.created_at, s.due_at, s.available_at, s.started_at, s.finished_at, s.error_code, s.error_message, own.fence, own.trail::text
  from own
  cross join orchestratum.summarise(json_build_array(timeline.command), timeline.at) s
  union all
  select
    s.id, s.name, s.version, s.hook, s.queue, s.priority, s.status, s.attempt, s.max_attempts, s.worker, s.parent_id, s.correlation_id,
    s.created_at, s.due_at, s.available_at, s.started_at, s.finished_at, s.error_code, s.error_message, null, null
  from orchestratum.summarise((select coalesce(json_agg(oldest.id), '[]') from oldest), timeline.at) s
  where exists (select from own)
$f$;
