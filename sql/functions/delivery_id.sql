-- The id of the command by which a subscription gets an event: always the same, so that filling up from the past meets the live ones.
-- It begins as the event's does (48 bits, of a UUIDv7 its time), which keeps indexes together; the rest is a hash of both.
-- One expression without a from clause, which the planner writes into its caller: 3 us a delivery instead of 11.
create function orchestratum.delivery_id(event_id uuid, subscription text)
returns uuid
language sql stable
as $f$
  select (
    left(replace(event_id::text, '-', ''), 12) || '8'
    || overlay(left(encode(sha256(convert_to(event_id::text || ' ' || subscription, 'UTF8')), 'hex'), 18) placing '8' from 4 for 0)
  )::uuid
$f$;
