-- Moves finished commands back among the live ones: an operator's way out of a final status. They keep id, trail and fence, start over with
-- all their attempts, and are due and available from now, a microsecond apart in the order asked: what they waited before was counted when
-- they ended. ids: ["…"]; change: {"input": …} replaces the input.
-- Answers 'retried', 'unfinished' (it lives, and waits or runs), 'erased' (its input is gone: it needs a new one), 'busy' (somebody else has
-- it locked: ask again) or 'unknown'.
-- Rows without an id tell what to hint at, as in finish.
-- It waits for no row lock. An id that somebody pushes again in an open transaction stops the insert, and no look beforehand could see it:
-- after lock_timeout (or as a duplicate, once it is committed) it is found by halving what was asked, and is busy; the others go on. That is
-- given up after five seconds, since a caller waits: what is left is busy, too. An id that is live is left alone even where history should
-- know it, too: a second row is never made of it.
-- History is partitioned, so a row is found again by its place and its partition; a join on the id may be planned as a scan of the index.
create function orchestratum.retry(
  ids json, change json default null, by_whom text default null, target json default null, at timestamptz default clock_timestamp()
)
returns table (id text, result text, queue text, available_at text)
language plpgsql volatile
set enable_seqscan = off set enable_bitmapscan = off set jit = off
set datestyle = 'ISO' set timezone = 'UTC' set lock_timeout = '200ms'
as $f$
#variable_conflict use_column
declare
  wanted uuid[] := array(
    select v::uuid from json_array_elements_text(retry.ids) with ordinality as a (v, place) group by v::uuid order by min(place)
  );
  -- Places in `wanted` that are still to be tried, together.
  ranges int4range[];
  first int;
  last int;
  retried uuid[] := '{}';
  dues jsonb := '[]';
begin
  perform orchestratum.require_read_committed();
  ranges := array(select int4range(1, cardinality(wanted), '[]') where cardinality(wanted) > 0);
  while cardinality(ranges) > 0 loop
    first := lower(ranges[1]);
    last := upper(ranges[1]) - 1;
    ranges := ranges[2:];
    begin
      with asked as materialized (
        select v as id, place from unnest(wanted) with ordinality as a (v, place) where place between first and last
      ),
      locked as materialized (
        select asked.place, l.*
        from asked
        left join lateral (select c.id from orchestratum.command c where c.id = asked.id limit 1) live on true
        cross join lateral (
          select h.tableoid as part, h.ctid as row
          from orchestratum.history h
          where h.id = asked.id and live.id is null and (h.erased_at is null or retry.change -> 'input' is not null)
          for update skip locked
        ) l
      ),
      moved as (
        delete from orchestratum.history h
        using locked
        where h.ctid = locked.row and h.tableoid = locked.part
        returning h.*, locked.place
      ),
      revived as (
        insert into orchestratum.command (
          id, name, version, hook, queue, priority, due_at, available_at, fence, max_attempts, timeout_ms, parent_id, input, metadata, trail,
          created_at
        )
        select
          m.id, m.name, m.version, m.hook, m.queue, m.priority, retry.at + (m.place - 1) * interval '1 microsecond',
          retry.at + (m.place - 1) * interval '1 microsecond', m.fence,
          m.max_attempts, m.timeout_ms, m.parent_id, coalesce(retry.change -> 'input', m.input), m.metadata, m.trail, m.created_at
        from moved m
        returning command.id, command.queue, command.available_at
      )
      select
        retried || array_agg(r.id order by r.available_at),
        dues || coalesce(jsonb_agg(jsonb_build_object('queue', r.queue, 'available_at', r.available_at)), '[]')
      into retried, dues
      from revived r;
    exception when lock_not_available or unique_violation then
      exit when (select clock_timestamp()) > retry.at + interval '5 seconds';
      perform set_config('lock_timeout', '20ms', true);
      if first < last then
        ranges := array[int4range(first, (first + last) / 2, '[]'), int4range((first + last) / 2 + 1, last, '[]')] || ranges;
      end if;
    end;
  end loop;
  if retry.change -> 'input' is null then
    perform orchestratum.record_act(retry.at, retry.by_whom, 'retry', retry.target, retried);
  else
    perform orchestratum.record_correction(retry.at, retry.by_whom, 'retry', retried);
  end if;

  return query
  select
    asked.id::text,
    case
      when asked.id = any (retried) then 'retried'
      when live.id is not null then 'unfinished'
      when past.erased_at is not null and retry.change -> 'input' is null then 'erased'
      when past.id is not null then 'busy'
      else 'unknown'
    end,
    null, null
  from unnest(wanted) asked (id)
  left join lateral (select c.id from orchestratum.command c where c.id = asked.id limit 1) live on true
  left join lateral (select h.id, h.erased_at from orchestratum.history h where h.id = asked.id limit 1) past on true
  union all
  select null, 'due', d.queue, min(d.available_at)::text
  from jsonb_to_recordset(dues) as d (queue text, available_at timestamptz)
  group by d.queue;
end $f$;
