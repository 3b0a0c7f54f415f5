-- Changes commands that wait. ids: ["…"]; change: any of {"input"}, {"due_at"} or {"delay_ms"}, {"priority"}.
-- Answers 'changed', 'running' (somebody holds a lease on it: left alone), 'cancelling' (it was to be cancelled when its lease ended without
-- a word: the next claim ends it, and nothing may put that off), 'finished', 'unknown', or 'busy' (locked by somebody: ask again).
-- Rows without an id tell what to hint at, as in finish.
-- Nothing is put behind a low-water mark: what is due anew, or comes into another lane, is available from the clock on, a microsecond apart in
-- the order that they had; what is scheduled stays so. With a new input alone a command keeps its place.
-- A lease that has expired without a word is taken away, as a claim would do it: whoever had it must not end the command by what it was.
create function orchestratum.amend(
  ids json, change json, kind text, by_whom text default null, at timestamptz default clock_timestamp()
)
returns table (id text, result text, queue text, available_at text)
language plpgsql volatile
set enable_seqscan = off set enable_bitmapscan = off set jit = off
set datestyle = 'ISO' set timezone = 'UTC' set lock_timeout = '200ms'
as $f$
#variable_conflict use_column
declare
  changed uuid[];
  running uuid[];
  cancelling uuid[];
  dues json;
  wanted_at timestamptz := coalesce(
    (amend.change ->> 'due_at')::timestamptz, at + (amend.change ->> 'delay_ms')::bigint * interval '1 millisecond');
  wanted_priority smallint := (amend.change ->> 'priority')::smallint;
begin
  perform orchestratum.require_read_committed();
  with locked as materialized (
    select l.*
    from (select distinct v::uuid as id from json_array_elements_text(amend.ids) v) asked
    cross join lateral (
      select
        c.ctid as row, c.id, c.available_at, c.leased_by is not null and c.available_at > at as runs,
        c.cancel_requested_at is not null as cancelled
      from orchestratum.command c
      where c.id = asked.id
      for update skip locked
    ) l
  ),
  placed as (
    select
      locked.row,
      case
        when wanted_at is null and (wanted_priority is null or locked.available_at > at) then locked.available_at
        else greatest(coalesce(wanted_at, locked.available_at), at)
          + (row_number() over (order by locked.available_at, locked.id) - 1) * interval '1 microsecond'
      end as available_at
    from locked
    where not locked.runs and not locked.cancelled
  ),
  written as (
    update orchestratum.command c
    set input = coalesce(amend.change -> 'input', c.input),
        due_at = coalesce(wanted_at, c.due_at),
        priority = coalesce(wanted_priority, c.priority),
        available_at = placed.available_at,
        losses = c.losses + (c.leased_by is not null)::int,
        trail = orchestratum.trail_lost(c, at),
        leased_by = null
    from placed
    where c.ctid = placed.row
    returning c.id, c.queue, c.available_at
  )
  select
    (select coalesce(array_agg(w.id order by w.available_at), '{}') from written w),
    (select coalesce(array_agg(l.id), '{}') from locked l where l.runs),
    (select coalesce(array_agg(l.id), '{}') from locked l where l.cancelled and not l.runs),
    (select json_agg(json_build_object('queue', w.queue, 'available_at', w.available_at)) from written w)
  into changed, running, cancelling, dues;
  if amend.change -> 'input' is null then
    perform orchestratum.record_act(amend.at, amend.by_whom, amend.kind, null, changed);
  else
    perform orchestratum.record_correction(amend.at, amend.by_whom, amend.kind, changed);
  end if;

  return query
  select
    asked.id::text,
    case
      when asked.id = any (changed) then 'changed'
      when asked.id = any (running) then 'running'
      when asked.id = any (cancelling) then 'cancelling'
      when live.id is not null then 'busy'
      when past.id is not null then 'finished'
      else 'unknown'
    end,
    null, null
  from (select distinct v::uuid as id from json_array_elements_text(amend.ids) v) asked
  left join lateral (select c.id from orchestratum.command c where c.id = asked.id limit 1) live on true
  left join lateral (select h.id from orchestratum.history h where h.id = asked.id limit 1) past on true
  union all
  select null, 'due', d.queue, min(d.available_at)::text
  from json_to_recordset(dues) as d (queue text, available_at timestamptz)
  group by d.queue;
end $f$;
