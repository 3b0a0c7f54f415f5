-- How far commands are, and by which clock, for those who watch. ids: ["…"]; what is not there is not answered. In the shape of get(), for its
-- reasons.
create function orchestratum.progress(ids json, at timestamptz default clock_timestamp())
returns table (id text, status text, progress text, finished_at text, at text)
language sql stable
set enable_seqscan = off set enable_bitmapscan = off set jit = off set datestyle = 'ISO' set timezone = 'UTC'
as $f$
  select one.id::text, one.status, one.progress::text, one.finished_at::text, progress.at::text
  from (select distinct v::uuid as id from json_array_elements_text(progress.ids) v) asked
  cross join lateral (
    select *
    from (
      select *
      from (
        select
          c.id, case when c.available_at <= progress.at then 'pending' when c.leased_by is null then 'scheduled' else 'running' end as status,
          c.progress, null::timestamptz as finished_at
        from orchestratum.command c
        where c.id = asked.id
        limit 1
      ) live
      union all
      select *
      from (
        select h.id, h.status, null::json, h.finished_at
        from orchestratum.history h
        where h.id = asked.id
        limit 1
      ) past
    ) either
    limit 1
  ) one
$f$;
