-- Every command, waiting, running or finished, as a person wants to read it: the one place where a status is spelled out.
-- For psql, reports and counts. A read by id goes through get(), whose plan no statistics can spoil.
insert into orchestratum.migration (version, name) values (3, 'create_all_commands');

create view orchestratum.all_commands as
select
  c.id, c.queue, c.name, c.version, c.hook, c.priority,
  case
    when c.available_at <= clock.at then 'pending'
    when c.leased_by is null then 'scheduled'
    else 'running'
  end as status,
  c.input, null::json as output, c.progress,
  c.created_at, c.due_at,
  c.available_at as next_attempt_at,
  c.timeout_ms,
  case when c.leased_by is not null and c.available_at > clock.at then c.started_at end as running_since,
  case when c.leased_by is not null then c.available_at end as lease_ends_at,
  c.leased_by as worker,
  c.started_at,
  null::timestamptz as finished_at, null::timestamptz as completed_at, null::timestamptz as cancelled_at, null::timestamptz as failed_at,
  c.cancel_requested_at, c.unknown_since,
  c.fence, least(c.attempt, c.max_attempts) as attempt, c.max_attempts, greatest(c.max_attempts - c.attempt, 0) as retries_left, c.losses,
  c.parent_id, c.metadata, c.trail
from orchestratum.command c
cross join (select clock_timestamp() as at) clock
union all
select
  h.id, h.queue, h.name, h.version, h.hook, h.priority,
  h.status,
  h.input, h.output, null::json,
  h.created_at, h.due_at,
  null::timestamptz,
  h.timeout_ms,
  null::timestamptz,
  null::timestamptz,
  h.worker,
  h.started_at,
  h.finished_at,
  case when h.status = 'succeeded' then h.finished_at end,
  case when h.status = 'cancelled' then h.finished_at end,
  case when h.status in ('failed', 'timed_out', 'not_found') then h.finished_at end,
  h.cancel_requested_at, null::timestamptz,
  h.fence, h.attempt, h.max_attempts, greatest(h.max_attempts - h.attempt, 0), h.losses,
  h.parent_id, h.metadata, h.trail
from orchestratum.history h;
