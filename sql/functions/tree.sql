-- The whole chain that a command belongs to: from the oldest ancestor that is still there, all descendants, max_count of them at most.
-- Summaries, and in each row the first one's id as `root`. Nothing where the command is not there.
-- Parents that SQL has tied to a ring end it: upwards no command comes twice, and downwards none is looked at again.
-- Finished children are found by history_parent, through all levels at once. Live ones have no index by parent (see timeline) and take one read
-- of the table, hashed, for all that is known by then; what they lead to is the next turn. A command has its follow-ups when it has ended, so
-- two turns are the rule. Nested loops and merges are off for that hash, and remain where there is no other way.
-- The recursions are lazy: `limit` ends them after as many rows, however many there would be.
create function orchestratum.tree(command uuid, max_count int, at timestamptz default clock_timestamp())
returns table (
  root text,
  id text, name text, version smallint, hook text, queue text, priority smallint, status text, attempt smallint, max_attempts smallint,
  worker text, parent_id text, correlation_id text, created_at text, due_at text, available_at text, started_at text, finished_at text,
  error_code text, error_message text
)
language plpgsql stable
set enable_seqscan = off set enable_bitmapscan = off set enable_nestloop = off set enable_mergejoin = off set jit = off
set datestyle = 'ISO' set timezone = 'UTC'
as $f$
#variable_conflict use_column
declare
  top uuid;
  nodes uuid[] := '{}';
  fresh uuid[];
begin
  with recursive ancestor as (
    select known.id, known.parent_id, array[known.id] as path
    from (select tree.command as id) asked
    cross join lateral (
      select c.id, c.parent_id from orchestratum.command c where c.id = asked.id
      union all
      select h.id, h.parent_id from orchestratum.history h where h.id = asked.id
      limit 1
    ) known
    union all
    select known.id, known.parent_id, a.path || known.id
    from ancestor a
    cross join lateral (
      select c.id, c.parent_id from orchestratum.command c where c.id = a.parent_id
      union all
      select h.id, h.parent_id from orchestratum.history h where h.id = a.parent_id
      limit 1
    ) known
    where known.id <> all (a.path)
      and cardinality(a.path) < tree.max_count
  )
  select a.id into top from ancestor a order by cardinality(a.path) desc limit 1;

  fresh := array[top];
  while top is not null and cardinality(fresh) > 0 and cardinality(nodes) < tree.max_count loop
    with recursive chain as (
      select v as id from unnest(fresh) v
      union
      select past.id
      from chain
      cross join lateral (select h.id from orchestratum.history h where h.parent_id = chain.id limit tree.max_count) past
    )
    select coalesce(array_agg(x.id), '{}')
    into fresh
    from (select chain.id from chain limit tree.max_count) x
    where x.id <> all (nodes);
    nodes := nodes || fresh;

    select coalesce(array_agg(x.id), '{}')
    into fresh
    from (
      select c.id
      from unnest(fresh) v
      join orchestratum.command c on c.parent_id = v
      order by c.created_at, c.id
      limit tree.max_count
    ) x
    where x.id <> all (nodes);
  end loop;

  return query
  select
    top::text, s.id, s.name, s.version, s.hook, s.queue, s.priority, s.status, s.attempt, s.max_attempts, s.worker, s.parent_id, s.correlation_id,
    s.created_at, s.due_at, s.available_at, s.started_at, s.finished_at, s.error_code, s.error_message
  from orchestratum.summarise(array_to_json(nodes[:tree.max_count]), tree.at) s
  where top is not null;
end $f$;
