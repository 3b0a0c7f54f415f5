-- What an event store costs at the least: the statements that append, place and read, with nothing around them. No partitions, no
-- deliveries, no retention, no limits of bytes, no patterns of topics. The benchmark `events` runs them in a bare loop.
create schema bare;

create table bare.stream (
  name text primary key,
  version int not null
);

create table bare.event (
  id uuid primary key,
  stream text,
  version int,
  topic text not null,
  data json,
  metadata json,
  appended_at timestamptz not null,
  unique (stream, version),
  check ((stream is null) = (version is null))
);

create table bare.event_inbox (
  seq bigint generated always as identity primary key,
  event_id uuid not null
) with (vacuum_truncate = off, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_cost_delay = 0);

create table bare.event_position (
  position bigint primary key,
  event_id uuid not null
);
create table bare.event_head (
  id boolean primary key default true check (id),
  position bigint not null default 0
);
insert into bare.event_head default values;

create function bare.append(stream text, expected_version int, events json, at timestamptz default clock_timestamp())
returns table (version int)
language plpgsql volatile
set enable_seqscan = off set enable_bitmapscan = off set jit = off
as $f$
#variable_conflict use_column
declare
  size int := json_array_length(events);
begin
  return query
  with created as (
    insert into bare.stream as s (name, version)
    select append.stream, size where append.stream is not null and coalesce(append.expected_version, 0) = 0
    on conflict (name) do update set version = s.version + size where s.version = coalesce(append.expected_version, s.version)
    returning s.version
  ),
  moved as (
    update bare.stream s
    set version = s.version + size
    where s.name = append.stream and s.version = append.expected_version and append.expected_version > 0
    returning s.version
  ),
  head as (
    select created.version from created
    union all
    select moved.version from moved
    union all
    select null where append.stream is null
  ),
  appended as (
    insert into bare.event (id, stream, version, topic, data, metadata, appended_at)
    select e.id, append.stream, head.version - size + e.place, e.topic, e.data, e.metadata, append.at
    from head
    cross join rows from (
      json_to_recordset(append.events) as (id uuid, topic text, data json, metadata json)
    ) with ordinality as e (id, topic, data, metadata, place)
    returning id, version
  ),
  queued as (
    insert into bare.event_inbox (event_id)
    select a.id from appended a order by a.version
  )
  select coalesce(head.version, 0) from head;
end $f$;

create function bare.sequence_events(max_count int)
returns int
language plpgsql volatile
set enable_seqscan = off set enable_bitmapscan = off set jit = off
as $f$
declare
  placed_count int;
begin
  if not exists (select from bare.event_inbox) then
    return 0;
  end if;
  with head as materialized (
    select h.position from bare.event_head h for update skip locked
  ),
  taken as (
    delete from bare.event_inbox i
    using head
    where i.seq = any (array(select x.seq from bare.event_inbox x order by x.seq limit sequence_events.max_count))
    returning i.seq, i.event_id
  ),
  placed as (
    insert into bare.event_position (position, event_id)
    select head.position + row_number() over (order by taken.seq), taken.event_id
    from taken, head
    returning position
  ),
  moved as (
    update bare.event_head h
    set position = newest.position
    from (select max(placed.position) as position from placed) newest
    where newest.position is not null
  )
  select count(*) into placed_count from placed;
  return placed_count;
end $f$;

create function bare.read_log(after bigint, max_count int)
returns table (event_position text, id text, stream text, version int, topic text, data text, metadata text, appended_at text)
language sql stable
set enable_seqscan = off set enable_bitmapscan = off set jit = off set datestyle = 'ISO' set timezone = 'UTC'
as $f$
  select p.position::text, e.id::text, e.stream, e.version, e.topic, e.data::text, e.metadata::text, e.appended_at::text
  from (
    select x.position, x.event_id
    from bare.event_position x
    where x.position > read_log.after
    order by x.position
    limit read_log.max_count
  ) p
  cross join lateral (select * from bare.event e where e.id = p.event_id limit 1) e
  order by p.position
$f$;
