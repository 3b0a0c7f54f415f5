-- Records how attempts ended, in one batch, together with everything that follows from them.
--
-- outcomes: [{"id", "fence", "verdict", "output" (or "null_output"), "error": {…}, "delay_ms", "until", "follow_ups": [pushed commands]}]. A verdict is a
-- final status, or one of 'retry' (attempt used), 'snooze', 'release' and 'unknown' (attempt handed back). `error` is what the trail keeps of
-- this lease. A follow-up's id is the library's own, never a user's: a twin in somebody's open transaction would make the batch wait for it.
-- It never waits for a row lock: a row that somebody else has locked comes back as 'busy' and goes into the next batch.
-- 'missing' means that this lease has no say any more: confirm() tells whether it was itself the one that settled it.
-- Once cancellation was requested, any end but success is 'cancelled'; decided here, on the locked row.
-- An end other than success pushes the parent's hook as a command of its own, where table handler knows of one; its input is not parsed
-- again, or an input that somebody wrote into the table by hand could keep its command from ever ending.
-- A row is looked up by id in a lateral subquery that cannot be pulled up, and found again by ctid and nothing else: a join on the id, or
-- an exists, may be planned as a scan of the whole index, and stay so.
-- History is inserted into without "on conflict": that wrote and confirmed each row speculatively, a sixth of the statement. Nothing leaves
-- an id in both tables; where somebody's hand did, the unique index refuses that one outcome, and it becomes a failed attempt.
-- One batch may name a command twice, under two fences (a worker that lost a lease and claimed it again): everything joins on both.
-- Rows without an id tell what to hint at: a queue, and from when something is due there that was not before.
create function orchestratum.finish(worker text, outcomes json, at timestamptz default clock_timestamp())
returns table (id text, fence int, result text, awaited boolean, queue text, available_at text)
language plpgsql volatile
set enable_seqscan = off set enable_bitmapscan = off set jit = off set plan_cache_mode = force_generic_plan
set datestyle = 'ISO' set timezone = 'UTC' set lock_timeout = '200ms'
as $f$
#variable_conflict use_column
declare
  succeeded_slot smallint := orchestratum.history_slot(at, true);
  other_slot smallint := orchestratum.history_slot(at, false);
begin
  perform orchestratum.require_read_committed();
  return query
  with reported as materialized (
    select distinct on (r.id, r.fence) r.*
    from json_to_recordset(finish.outcomes) as r (
      id uuid, fence int, verdict text, output json, null_output boolean, error jsonb, delay_ms bigint, until timestamptz, follow_ups json
    )
  ),
  held as materialized (
    select
      r.id, r.fence, r.verdict,
      case when r.null_output then 'null'::json else r.output end as output, r.error, r.delay_ms, r.until, r.follow_ups, l.row, seen.id is not null as seen,
      case
        when l.cancel_requested and r.verdict <> 'succeeded' then 'cancelled'
        when r.verdict in ('retry', 'snooze', 'release', 'unknown') then null
        else r.verdict
      end as status
    from reported r
    left join lateral (
      select c.ctid as row, c.cancel_requested_at is not null as cancel_requested
      from orchestratum.command c
      where c.id = r.id and c.fence = r.fence and c.leased_by = finish.worker
      for update skip locked
    ) l on true
    -- Only what could not be locked is looked for without: for all the others that would be a second probe of the index.
    left join lateral (
      select c.id
      from orchestratum.command c
      where l.row is null and c.id = r.id and c.fence = r.fence and c.leased_by = finish.worker
      limit 1
    ) seen on true
  ),
  settled as (
    delete from orchestratum.command c
    using held h
    where c.ctid = h.row and h.status is not null
    returning c.*, h.output, h.error, h.follow_ups, h.status
  ),
  recorded as (
    insert into orchestratum.history (
      slot, id, name, version, hook, queue, priority, status, due_at, fence, attempt, max_attempts, losses, timeout_ms, worker,
      started_at, finished_at, cancel_requested_at, parent_id, input, output, metadata, trail, created_at
    )
    select
      case when s.status = 'succeeded' then succeeded_slot else other_slot end,
      s.id, s.name, s.version, s.hook, s.queue, s.priority, s.status, s.due_at, s.fence,
      least(s.attempt, s.max_attempts), s.max_attempts, s.losses, s.timeout_ms, s.leased_by, s.started_at, finish.at, s.cancel_requested_at,
      s.parent_id, s.input, s.output, s.metadata,
      case
        when s.error is null then s.trail
        else orchestratum.trail_add(s.trail, s.error || jsonb_build_object(
          'fence', s.fence, 'attempt', s.attempt, 'worker', finish.worker, 'started_at', s.started_at, 'ended_at', finish.at))
      end,
      s.created_at
    from settled s
  ),
  returned as (
    update orchestratum.command c
    set available_at = greatest(h.until, finish.at + greatest(h.delay_ms, 0) * interval '1 millisecond'),
        attempt = c.attempt - (h.verdict <> 'retry')::int,
        unknown_since = case h.verdict when 'unknown' then coalesce(c.unknown_since, finish.at) when 'release' then c.unknown_since end,
        trail = case
          when h.error is null then c.trail
          else orchestratum.trail_add(c.trail, h.error || jsonb_build_object(
            'fence', h.fence, 'attempt', c.attempt, 'worker', finish.worker, 'started_at', c.started_at, 'ended_at', finish.at))
        end,
        leased_by = null
    from held h
    where c.ctid = h.row and h.status is null
    returning c.id, c.fence, c.queue, c.available_at
  ),
  following as (
    select s.follow_ups as commands
    from settled s
    where s.follow_ups is not null
  ),
  followed as (
    insert into orchestratum.command (
      id, name, version, hook, queue, priority, due_at, available_at, max_attempts, timeout_ms, awaited, parent_id, input, metadata, created_at
    )
    select
      r.id, r.name, r.version, r.hook, r.queue, r.priority, r.due_at, r.available_at, r.max_attempts, r.timeout_ms, r.awaited, r.parent_id,
      r.input, r.metadata, r.created_at
    from following
    cross join lateral orchestratum.command_rows(following.commands, finish.at) r
    union all
    select
      gen_random_uuid(), s.name, s.version, hook.name, s.queue, s.priority, finish.at, finish.at, 4, s.timeout_ms, false, s.id,
      hook.input, orchestratum.hook_metadata(s.metadata, s.id), finish.at
    from settled s
    cross join lateral (
      select
        case when s.status = 'cancelled' then 'cancellation' else 'failure' end as name,
        case
          when s.input is null then json_build_object('status', s.status, 'error', s.error)
          else json_build_object('input', s.input, 'status', s.status, 'error', s.error)
        end as input
    ) hook
    where s.status <> 'succeeded'
      and s.hook is null
      and exists (select from orchestratum.handler h where h.name = s.name and hook.name = any (h.hooks))
    on conflict (id) do nothing
    returning command.queue, command.available_at
  ),
  due as (
    select followed.queue, followed.available_at from followed union all select returned.queue, returned.available_at from returned
  )
  select
    h.id::text, h.fence,
    case when s.id is not null or a.id is not null then 'accepted'
      -- Locked, and yet not written: it changed after this statement's snapshot (somebody began to wait for it).
      when h.row is not null or h.seen then 'busy'
      else 'missing'
    end,
    coalesce(s.awaited, false), null, null
  from held h
  left join settled s on s.id = h.id and s.fence = h.fence
  left join returned a on a.id = h.id and a.fence = h.fence
  union all
  select null, null, 'due', null, due.queue, min(due.available_at)::text from due group by due.queue;
end $f$;
