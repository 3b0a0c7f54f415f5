-- These commands, and what stands in history that tells the same: their hook commands, the deliveries of the events that they or their hooks
-- published, and the hook commands of those. `root` is the command asked for. What a subscriber published in its turn is not among them.
create function orchestratum.erasable(ids uuid[])
returns table (root uuid, id uuid, is_delivery boolean, erased_at timestamptz)
language sql stable
set enable_seqscan = off set enable_bitmapscan = off set jit = off
as $f$
  with recursive found as (
    select asked.id as root, asked.id, false as is_delivery, null::timestamptz as erased_at
    from unnest(erasable.ids) asked (id)
    union
    select found.root, child.id, found.is_delivery or child.hook is null, child.erased_at
    from found
    cross join lateral (
      select h.id, h.hook, h.erased_at
      from orchestratum.history h
      where h.parent_id = found.id and (h.hook is not null or not found.is_delivery and starts_with(h.name, 'deliver:'))
      offset 0
    ) child
  )
  select found.root, found.id, found.is_delivery, found.erased_at
  from found
$f$;
