-- The figures of a digest run, from what was recorded of its commands. $1: the run, which is their correlation id.
-- The lists name the first few only: an output has at most 256 KiB.
with run as materialized (
  select a.name, a.status, a.attempt, a.input, a.output, a.trail
  from orchestratum.all_commands a
  where a.name in ('walk_folder', 'digest_file')
    and a.hook is null
    and a.metadata->>'correlationId' = $1::text
),
walked as materialized (
  select r.input->>'after' is null as first_page, (r.output->>'skipped')::bigint as skipped
  from run r
  where r.name = 'walk_folder' and r.status = 'succeeded'
),
digested as materialized (
  select
    r.input->>'file' as file, (r.output->>'bytes')::bigint as bytes, r.output->>'sha256' as sha256,
    (r.output->>'ms')::double precision as ms
  from run r
  where r.name = 'digest_file' and r.status = 'succeeded'
),
twin as materialized (
  select d.sha256, d.bytes, min(d.file) as file, count(*) as copies, (count(*) - 1) * d.bytes as wasted_bytes
  from digested d
  group by d.sha256, d.bytes
  having count(*) > 1
)
select json_build_object(
  'commands', (select count(*) from run),
  'retried', (select count(*) from run r where r.attempt > 1),
  'folders', (select count(*) from walked w where w.first_page),
  'skipped', (select coalesce(sum(w.skipped), 0) from walked w),
  'files', (select count(*) from digested),
  'bytes', (select coalesce(sum(d.bytes), 0) from digested d),
  'slowest', (
    select coalesce(json_agg(json_build_object('file', s.file, 'bytes', s.bytes, 'ms', s.ms)), '[]')
    from (select d.* from digested d order by d.ms desc, d.file limit 5) s
  ),
  'duplicates', (
    select json_build_object(
      'groups', count(*),
      'files', coalesce(sum(t.copies), 0),
      'wastedBytes', coalesce(sum(t.wasted_bytes), 0),
      'largest', (
        select coalesce(
          json_agg(json_build_object('file', l.file, 'bytes', l.bytes, 'copies', l.copies, 'wastedBytes', l.wasted_bytes)), '[]')
        from (select t.* from twin t where t.wasted_bytes > 0 order by t.wasted_bytes desc, t.file limit 5) l
      )
    )
    from twin t
  ),
  'failures', (
    select json_build_object(
      'count', count(*),
      'first', (
        select coalesce(
          json_agg(json_build_object('name', f.name, 'path', f.path, 'status', f.status, 'error', f.error)), '[]')
        from (
          select r.name, r.status, coalesce(r.input->>'file', r.input->>'folder') as path, r.trail->-1->>'message' as error
          from run r
          where r.status <> 'succeeded'
          order by path
          limit 10
        ) f
      )
    )
    from run r
    where r.status <> 'succeeded'
  )
)::text as figures
