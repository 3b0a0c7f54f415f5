-- A reader's checkpoint within a transaction of its handler's own, as its last statement: what the handler wrote there and how far it has
-- come commit together, or neither does. False where the lease is over or not this process's any more: nothing has been changed then.
-- As finish_within: a process that froze between this and its COMMIT would hold the reader's row for ever, and nobody else could go on. So
-- the transaction ends with the lease at the latest, by a timeout of this transaction alone; one that is shorter already stays. It waits for
-- the row: nobody but a heartbeat, or who takes the lease away, ever holds it, and for moments only.
create function orchestratum.checkpoint(
  reader text, generation int, worker text, fence int, event_position bigint, at timestamptz default clock_timestamp()
)
returns boolean
language plpgsql volatile
as $f$
declare
  left_ms bigint;
  idle_ms bigint;
begin
  perform orchestratum.require_read_committed();
  update orchestratum.reader r
  set position = greatest(r.position, checkpoint.event_position),
      checkpoint_at = checkpoint.at,
      failures = 0,
      last_error = null
  where r.name = checkpoint.reader
    and r.generation = checkpoint.generation
    and r.fence = checkpoint.fence
    and r.leased_by = checkpoint.worker
    and r.available_at > checkpoint.at + interval '1 millisecond'
  returning floor(extract(epoch from r.available_at - checkpoint.at) * 1000) into left_ms;
  if not found then
    return false;
  end if;
  select s.setting::bigint into idle_ms from pg_settings s where s.name = 'idle_in_transaction_session_timeout';
  if idle_ms = 0 or idle_ms > left_ms then
    perform set_config('idle_in_transaction_session_timeout', least(left_ms, 2147483647)::text, true);
  end if;
  return true;
end $f$;
