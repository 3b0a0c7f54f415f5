-- Commands by their ids, live or finished, without their payloads: what lists show of them. ids: ["…"]; what is not there is not answered.
-- In the shape of get(), for its reasons. A correlation id that is null is the command's own id.
create function orchestratum.summarise(ids json, at timestamptz default clock_timestamp())
returns table (
  id text, name text, version smallint, hook text, queue text, priority smallint, status text, attempt smallint, max_attempts smallint,
  worker text, parent_id text, correlation_id text, created_at text, due_at text, available_at text, started_at text, finished_at text,
  error_code text, error_message text
)
language sql stable
set enable_seqscan = off set enable_bitmapscan = off set jit = off set datestyle = 'ISO' set timezone = 'UTC'
as $f$
  select
    one.id::text, one.name, one.version, one.hook, one.queue, one.priority, one.status, one.attempt, one.max_attempts, one.worker,
    one.parent_id::text, one.correlation_id, one.created_at::text, one.due_at::text, one.available_at::text, one.started_at::text,
    one.finished_at::text,
    case when one.error ->> 'code' not in ('snoozed', 'released') then one.error ->> 'code' end,
    case when one.error ->> 'code' not in ('snoozed', 'released') then one.error ->> 'message' end
  from (select distinct v::uuid as id from json_array_elements_text(summarise.ids) v) asked
  cross join lateral (
    select *
    from (
      select *
      from (
        select
          c.id, c.name, c.version, c.hook, c.queue, c.priority,
          case when c.available_at <= summarise.at then 'pending' when c.leased_by is null then 'scheduled' else 'running' end as status,
          least(c.attempt, c.max_attempts) as attempt, c.max_attempts, c.leased_by as worker, c.parent_id,
          case when strpos(replace(c.metadata::text, '\\', ''), '\u') = 0 then c.metadata ->> 'correlationId' end as correlation_id,
          c.created_at, c.due_at, c.available_at, c.started_at, null::timestamptz as finished_at, c.trail -> -1 as error
        from orchestratum.command c
        where c.id = asked.id
        limit 1
      ) live
      union all
      select *
      from (
        select
          h.id, h.name, h.version, h.hook, h.queue, h.priority, h.status, h.attempt, h.max_attempts, h.worker, h.parent_id,
          case when strpos(replace(h.metadata::text, '\\', ''), '\u') = 0 then h.metadata ->> 'correlationId' end,
          h.created_at, h.due_at, null::timestamptz, h.started_at, h.finished_at, h.trail -> -1
        from orchestratum.history h
        where h.id = asked.id
        limit 1
      ) past
    ) either
    limit 1
  ) one
$f$;
