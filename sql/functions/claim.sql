-- Leases up to `max_count` due commands to one worker, lane by lane in the order given, up to `max_bytes` of input (at least one).
--
-- lanes: [{"queue", "priority", "mark_at"}]; the mark is where this worker's last claim of the lane ended, and
-- '-infinity' asks for everything. Without it a claim reads all entries that dead rows left in front of the first live one.
-- The outer query has no ORDER BY: a sort would lock `max_count` rows of every lane instead of the first `max_count`.
-- Rows just locked are found again by ctid: a join on id may be planned as a scan of the whole index.
-- `purpose` says what the worker is to do: run the handler, or record an end that is already decided.
-- `abandoned_by` is the worker whose lease ended without a word, the loss that this claim counts; null of nearly all.
-- `lane` is the place in `lanes` that a row came from (1 is the first): with its available_at the worker moves that lane's mark.
-- The last row has no id. Its available_at is the clock that the claim went by, and `more` says whether something due is left: a limit was
-- met, or a second look, which takes no locks, found a row that the first passed over (somebody had it locked, for a moment, or had just
-- changed it). Only a claim with nothing more moves the marks of all lanes, and only then may a
-- worker sleep until something is due; more without any row means: look again in 2, 4, 8 … ms.
-- Only what every execution needs is returned: each column costs (20 columns instead of 6 took 10 to 20 % of the drain).
create function orchestratum.claim(
  worker text, lanes json, max_count int, max_bytes int, lease_ms int, max_losses int default 3,
  at timestamptz default clock_timestamp()
) returns table (
  id text, name text, version smallint, hook text, purpose text, fence int, attempt smallint, max_attempts smallint, losses smallint,
  timeout_ms int, parent_id text, unknown_since text, input text, metadata text, abandoned_by text, lane int, available_at text, more boolean
)
language plpgsql volatile
-- The plan must not depend on statistics: a worker idles on an empty table, caches this plan, and keeps it when a million rows arrive.
-- And it is the first one: otherwise each connection plans its first five calls anew, which costs several times what they do.
set enable_seqscan = off set enable_bitmapscan = off set jit = off set plan_cache_mode = force_generic_plan
set datestyle = 'ISO' set timezone = 'UTC'
as $f$
#variable_conflict use_column
declare
  taken int;
begin
  perform orchestratum.require_read_committed();
  return query
  with lane as materialized (
    select l.queue, l.priority, l.mark_at, l.place
    from (
      select distinct on (l.queue, l.priority) l.*
      from rows from (
        json_to_recordset(claim.lanes) as (queue text, priority smallint, mark_at timestamptz)
      ) with ordinality as l (queue, priority, mark_at, place)
      order by l.queue, l.priority, l.mark_at nulls first
    ) l
    order by l.place
  ),
  held as materialized (
    select due.*, lane.place
    from lane
    cross join lateral (
      select
        c.ctid as row, c.id, c.available_at, c.leased_by, coalesce(octet_length(c.input::text), 0) as bytes,
        case
          when c.cancel_requested_at is not null then 'cancel'
          when c.attempt >= c.max_attempts or c.losses + (c.leased_by is not null)::int >= claim.max_losses then 'exhausted'
          else 'run'
        end as purpose
      from orchestratum.command c
      where c.queue = lane.queue
        and c.priority = lane.priority
        and c.available_at >= coalesce(lane.mark_at, '-infinity')
        and c.available_at <= claim.at
      order by c.available_at
      limit claim.max_count
      for update skip locked
    ) due
    limit claim.max_count
  ),
  fits as materialized (
    select summed.*
    from (select held.*, sum(held.bytes) over (rows unbounded preceding) - held.bytes as before from held) summed
    where summed.before < claim.max_bytes
  ),
  leased as (
    update orchestratum.command c
    set available_at = claim.at + claim.lease_ms * interval '1 millisecond',
        fence = c.fence + 1,
        attempt = c.attempt + 1,
        losses = c.losses + (c.leased_by is not null)::int,
        trail = orchestratum.trail_lost(c, claim.at),
        leased_by = claim.worker,
        started_at = claim.at
    where c.ctid = any (array(select fits.row from fits))
    -- No more than what is answered: the rows are kept until they are joined below.
    returning
      c.id, c.name, c.version, c.hook, c.fence, c.attempt, c.max_attempts, c.losses, c.timeout_ms, c.parent_id, c.unknown_since, c.input, c.metadata
  )
  select
    l.id::text, l.name, l.version, l.hook, f.purpose, l.fence, l.attempt, l.max_attempts, l.losses,
    l.timeout_ms, l.parent_id::text, l.unknown_since::text, l.input::text, l.metadata::text, f.leased_by, f.place::int,
    f.available_at::text, null::boolean
  from leased l
  join fits f on f.id = l.id;
  get diagnostics taken = row_count;

  available_at := claim.at::text;
  more := taken >= claim.max_count or exists (
    select
    from json_to_recordset(claim.lanes) as lane (queue text, priority smallint, mark_at timestamptz)
    cross join lateral (
      select
      from orchestratum.command c
      where c.queue = lane.queue
        and c.priority = lane.priority
        and c.available_at >= coalesce(lane.mark_at, '-infinity')
        and c.available_at <= claim.at
      order by c.available_at
      limit 1
    ) due
  );
  return next;
end $f$;
