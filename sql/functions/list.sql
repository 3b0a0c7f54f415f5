-- One page of a list: live commands in the order of their lanes, then finished ones, the newest first.
--
-- filter: {"statuses": […], "queue", "name", "parent_id", "correlation_id", "from", "to", "error_text", "hooks", "erased"}, of which
-- "erased": false leaves out what was erased. after: the place behind which the page begins, {"queue", "priority", "available_at", "id"} of a
-- live command or {"finished_at", "id"} of a finished one, or null. before: leaves out what was created (live) or finished later. It answers
-- summaries, in order, without payloads.
-- Live commands are read lane by lane: within one, the time divides what is pending from what is scheduled or running, so a million that are
-- scheduled cost a list of what is pending nothing. The index has no id; the few of one microsecond are sorted.
-- History is read backwards along history_finished, all slots merged, or only those of one ring; what has a parent or a correlation id goes by
-- the index for that, and is then sorted. enable_sort is off for the first: the plan of an empty table would sort all that there is.
-- The second is a materialized CTE that knows no other condition and wants no order (`union` would): no other index may be tempted.
-- Plans are generic: where history is large, one that is made for the range at hand looks cheaper, and would be made anew for every page, over
-- 32 slots: 2 ms of a page's 3.
-- A stable function sees one snapshot: what ends meanwhile is live or finished on a page, and never neither.
create function orchestratum.list(filter json, after json, max_count int, before timestamptz, at timestamptz default clock_timestamp())
returns table (
  id text, name text, version smallint, hook text, queue text, priority smallint, status text, attempt smallint, max_attempts smallint,
  worker text, parent_id text, correlation_id text, created_at text, due_at text, available_at text, started_at text, finished_at text,
  error_code text, error_message text
)
language plpgsql stable
set enable_seqscan = off set enable_bitmapscan = off set enable_sort = off set jit = off set plan_cache_mode = force_generic_plan
set datestyle = 'ISO' set timezone = 'UTC'
as $f$
#variable_conflict use_column
declare
  f_statuses text[] := array(select v from json_array_elements_text(list.filter -> 'statuses') v);
  f_queue text := list.filter ->> 'queue';
  f_name text := list.filter ->> 'name';
  f_parent_id uuid := list.filter ->> 'parent_id';
  f_correlation_id text := list.filter ->> 'correlation_id';
  -- The first of a chain. Here and not in the query, whose planner would cast the text before it looks at the condition.
  f_first_id uuid := case when f_correlation_id ~* '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$' then f_correlation_id end;
  f_from timestamptz := coalesce((list.filter ->> 'from')::timestamptz, '-infinity');
  f_to timestamptz := coalesce((list.filter ->> 'to')::timestamptz, 'infinity');
  f_until timestamptz := coalesce(list.before, 'infinity');
  f_error_text text := lower(list.filter ->> 'error_text');
  f_hooks boolean := coalesce((list.filter ->> 'hooks')::boolean, false);
  f_erased boolean := coalesce((list.filter ->> 'erased')::boolean, true);
  after_id uuid := list.after ->> 'id';
  after_finished_at timestamptz := list.after ->> 'finished_at';
  after_available_at timestamptz := list.after ->> 'available_at';
  -- The lane that is read, and what of it: from and to which time.
  lane_queue text := coalesce(list.after ->> 'queue', f_queue, '');
  lane_priority smallint := coalesce((list.after ->> 'priority')::smallint, -1::smallint);
  in_lane boolean := list.after ->> 'queue' is not null;
  first_at timestamptz := case when 'pending' = any (f_statuses) then '-infinity' else list.at end;
  -- A lease is a day long at most: what is scheduled beyond is not read for what runs.
  last_at timestamptz := case
    when 'scheduled' = any (f_statuses) then 'infinity'
    when 'running' = any (f_statuses) then list.at + interval '1 day'
    else list.at
  end;
  first_slot int := case when 'succeeded' = any (f_statuses) then 0 else 16 end;
  last_slot int := case when f_statuses && array['failed', 'cancelled', 'timed_out', 'not_found'] then 31 else 15 end;
  wanted int := list.max_count;
  found_count int;
begin
  if after_finished_at is null and f_statuses && array['scheduled', 'pending', 'running'] then
    loop
      if not in_lane then
        after_available_at := '-infinity';
        after_id := '00000000-0000-0000-0000-000000000000';
        -- The one after the lane before.
        select c.queue, c.priority
        into lane_queue, lane_priority
        from orchestratum.command c
        where (c.queue, c.priority) > (lane_queue, lane_priority)
        order by c.queue, c.priority
        limit 1;
        exit when not found or lane_queue <> f_queue;
      end if;
      in_lane := false;
      return query
      select
        c.id::text, c.name, c.version, c.hook, c.queue, c.priority,
        case when c.available_at <= list.at then 'pending' when c.leased_by is null then 'scheduled' else 'running' end,
        least(c.attempt, c.max_attempts), c.max_attempts, c.leased_by, c.parent_id::text,
        case when strpos(replace(c.metadata::text, '\\', ''), '\u') = 0 then c.metadata ->> 'correlationId' end,
        c.created_at::text, c.due_at::text, c.available_at::text, c.started_at::text, null,
        case when c.trail -> -1 ->> 'code' not in ('snoozed', 'released') then c.trail -> -1 ->> 'code' end,
        case when c.trail -> -1 ->> 'code' not in ('snoozed', 'released') then c.trail -> -1 ->> 'message' end
      from orchestratum.command c
      where c.queue = lane_queue
        and c.priority = lane_priority
        and c.available_at >= greatest(after_available_at, first_at)
        and c.available_at <= last_at
        and (c.available_at, c.id) > (after_available_at, after_id)
        and case when c.available_at <= list.at then 'pending' when c.leased_by is null then 'scheduled' else 'running' end = any (f_statuses)
        and c.created_at >= f_from
        and c.created_at < f_to
        and c.created_at <= f_until
        and (f_hooks or c.hook is null)
        and (f_queue is null or c.queue = f_queue)
        and (f_name is null or c.name = f_name)
        and (f_parent_id is null or c.parent_id = f_parent_id)
        and (
          f_correlation_id is null
          or c.id::text = lower(f_correlation_id)
          or case when strpos(replace(c.metadata::text, '\\', ''), '\u') = 0 then left(c.metadata ->> 'correlationId', 200) end = f_correlation_id
        )
        and (
          f_error_text is null
          or exists (
            select
            from jsonb_array_elements(c.trail) e
            where strpos(lower(concat_ws(e'\n', e ->> 'code', e ->> 'name', e ->> 'message')), f_error_text) > 0
          )
        )
      order by c.available_at, c.id
      limit wanted;
      get diagnostics found_count = row_count;
      wanted := wanted - found_count;
      if wanted <= 0 then
        return;
      end if;
    end loop;
  end if;

  if not f_statuses && array['succeeded', 'failed', 'cancelled', 'timed_out', 'not_found'] then
    return;
  end if;
  if after_finished_at is null then
    after_finished_at := 'infinity';
    after_id := 'ffffffff-ffff-ffff-ffff-ffffffffffff';
  end if;

  if f_parent_id is null and f_correlation_id is null then
    return query
    select
      h.id::text, h.name, h.version, h.hook, h.queue, h.priority, h.status, h.attempt, h.max_attempts, h.worker, h.parent_id::text,
      case when strpos(replace(h.metadata::text, '\\', ''), '\u') = 0 then h.metadata ->> 'correlationId' end,
      h.created_at::text, h.due_at::text, null, h.started_at::text, h.finished_at::text,
      case when h.trail -> -1 ->> 'code' not in ('snoozed', 'released') then h.trail -> -1 ->> 'code' end,
      case when h.trail -> -1 ->> 'code' not in ('snoozed', 'released') then h.trail -> -1 ->> 'message' end
    from orchestratum.history h
    where h.slot between first_slot and last_slot
      and h.finished_at >= f_from
      and h.finished_at <= least(after_finished_at, f_until, f_to)
      and h.finished_at < f_to
      and (h.finished_at, h.id) < (after_finished_at, after_id)
      and h.status = any (f_statuses)
      and (f_hooks or h.hook is null)
      and (f_erased or h.erased_at is null)
      and (f_queue is null or h.queue = f_queue)
      and (f_name is null or h.name = f_name)
      and (
        f_error_text is null
        or exists (
          select
          from jsonb_array_elements(h.trail) e
          where strpos(lower(concat_ws(e'\n', e ->> 'code', e ->> 'name', e ->> 'message')), f_error_text) > 0
        )
      )
    order by h.finished_at desc, h.id desc
    limit wanted;
    return;
  end if;

  return query
  with related as materialized (
    select h.id, h.slot
    from orchestratum.history h
    where h.parent_id = f_parent_id
    union all
    select h.id, h.slot
    from orchestratum.history h
    where f_parent_id is null
      and h.id::text <> lower(f_correlation_id)
      and h.metadata is not null
      and case
        when strpos(h.metadata::text, '\u') = 0 or strpos(replace(h.metadata::text, '\\', ''), '\u') = 0 then left(h.metadata ->> 'correlationId', 200)
      end = f_correlation_id collate "C"
    union all
    select own.id, own.slot
    from (select f_first_id as id where f_parent_id is null) asked
    cross join lateral (select h.id, h.slot from orchestratum.history h where h.id = asked.id limit 1) own
  ),
  chosen as materialized (
    select one.*
    from related
    cross join lateral (
      select
        h.id, h.name, h.version, h.hook, h.queue, h.priority, h.status, h.attempt, h.max_attempts, h.worker, h.parent_id,
        case when strpos(replace(h.metadata::text, '\\', ''), '\u') = 0 then h.metadata ->> 'correlationId' end as correlation_id,
        h.created_at, h.due_at, h.started_at, h.finished_at, h.erased_at, h.trail
      from orchestratum.history h
      where h.id = related.id and h.slot = related.slot
      limit 1
    ) one
  )
  select
    h.id::text, h.name, h.version, h.hook, h.queue, h.priority, h.status, h.attempt, h.max_attempts, h.worker, h.parent_id::text,
    h.correlation_id, h.created_at::text, h.due_at::text, null, h.started_at::text, h.finished_at::text,
    case when h.trail -> -1 ->> 'code' not in ('snoozed', 'released') then h.trail -> -1 ->> 'code' end,
    case when h.trail -> -1 ->> 'code' not in ('snoozed', 'released') then h.trail -> -1 ->> 'message' end
  from chosen h
  where h.finished_at >= f_from
    and h.finished_at < f_to
    and h.finished_at <= f_until
    and (h.finished_at, h.id) < (after_finished_at, after_id)
    and h.status = any (f_statuses)
    and (f_correlation_id is null or coalesce(left(h.correlation_id, 200), h.id::text) = f_correlation_id or h.id::text = lower(f_correlation_id))
    and (f_hooks or h.hook is null)
    and (f_erased or h.erased_at is null)
    and (f_queue is null or h.queue = f_queue)
    and (f_name is null or h.name = f_name)
    and (
      f_error_text is null
      or exists (
        select
        from jsonb_array_elements(h.trail) e
        where strpos(lower(concat_ws(e'\n', e ->> 'code', e ->> 'name', e ->> 'message')), f_error_text) > 0
      )
    )
  order by h.finished_at desc, h.id desc
  limit wanted;
end $f$;
