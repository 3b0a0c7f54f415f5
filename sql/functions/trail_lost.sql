-- The trail of a command whose lease ended without a word: with one more entry, of that attempt, where it had one.
create function orchestratum.trail_lost(command orchestratum.command, ended_at timestamptz)
returns jsonb
language sql stable
as $f$
  select
    case
      when command.leased_by is null then command.trail
      else orchestratum.trail_add(command.trail, jsonb_build_object(
        'code', 'lost', 'message', 'Its lease ended without a word', 'fence', command.fence, 'attempt', command.attempt,
        'worker', command.leased_by, 'started_at', command.started_at, 'ended_at', ended_at))
    end
$f$;
