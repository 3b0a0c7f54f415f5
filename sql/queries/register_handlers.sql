-- Says which handlers a worker has. $1: [{"name", "version", "hooks", "upgrades", "queue", "priority", "max_attempts", "timeout_ms"}].
-- Hooks are only ever added, since another worker may still have one that this one lacks. In one order, so that workers that start together do
-- not lock each other out; what others said within half a minute is not said again.
insert into orchestratum.handler as h (name, version, hooks, upgrades, seen_at, queue, priority, max_attempts, timeout_ms)
select
  r.name, r.version, array(select v from json_array_elements_text(r.hooks) v order by v), r.upgrades, (select clock_timestamp()), r.queue, r.priority,
  r.max_attempts, r.timeout_ms
from json_to_recordset($1::text::json) as r (
  name text, version smallint, hooks json, upgrades boolean, queue text, priority smallint, max_attempts smallint, timeout_ms int
)
order by r.name, r.version
on conflict (name, version) do update
set hooks = array(select v from unnest(h.hooks || excluded.hooks) v group by v order by v),
    upgrades = excluded.upgrades,
    seen_at = excluded.seen_at,
    queue = excluded.queue,
    priority = excluded.priority,
    max_attempts = excluded.max_attempts,
    timeout_ms = excluded.timeout_ms
where h.seen_at < excluded.seen_at - interval '30 seconds'
  or not h.hooks @> excluded.hooks
  or (h.upgrades, h.queue, h.priority, h.max_attempts, h.timeout_ms)
    is distinct from (excluded.upgrades, excluded.queue, excluded.priority, excluded.max_attempts, excluded.timeout_ms)
