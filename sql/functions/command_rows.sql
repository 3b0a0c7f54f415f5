-- The one place that knows what a pushed command looks like as JSON and what is assumed where it is silent.
-- Wanted is `due_at`, or `delay_ms` from now by this clock, or now. Nothing is ever available before the clock: a row put behind a worker's
-- low-water mark would wait for a rescan.
-- An input that is JSON's null is said as `null_input`: in a row of json_to_recordset it would be no input at all.
-- Each command of a batch is available a microsecond after the one before it: that keeps their order, and lets a mark move within a batch
-- although the index has no id to break ties.
create function orchestratum.command_rows(commands json, at timestamptz)
returns table (
  id uuid, name text, version smallint, hook text, queue text, priority smallint, due_at timestamptz, available_at timestamptz,
  max_attempts smallint, timeout_ms int, awaited boolean, parent_id uuid, input json, metadata json, created_at timestamptz
)
language sql volatile
as $f$
  select
    coalesce(c.id, gen_random_uuid()), c.name, coalesce(c.version, 1::smallint), c.hook,
    coalesce(c.queue, 'default'), coalesce(c.priority, 5::smallint),
    coalesce(c.due_at, at + c.delay_ms * interval '1 millisecond', at),
    greatest(c.due_at, at + c.delay_ms * interval '1 millisecond', at) + (c.place - 1) * interval '1 microsecond',
    coalesce(c.max_attempts, 4::smallint), coalesce(c.timeout_ms, 60000), coalesce(c.awaited, false), c.parent_id,
    case when c.null_input then 'null'::json else c.input end, c.metadata, at
  from rows from (
    json_to_recordset(commands) as (
      id uuid, name text, version smallint, hook text, queue text, priority smallint, due_at timestamptz, delay_ms bigint,
      max_attempts smallint, timeout_ms int, awaited boolean, parent_id uuid, input json, null_input boolean, metadata json
    )
  ) with ordinality as c (
    id, name, version, hook, queue, priority, due_at, delay_ms, max_attempts, timeout_ms, awaited, parent_id, input, null_input, metadata, place
  )
$f$;
