-- The id of the command by which a subscription gets an event: always the same, so that filling up from the past meets the live ones.
-- It begins as the event's does (48 bits, of a UUIDv7 its time), which keeps indexes together; the rest is a hash of both.
create function orchestratum.delivery_id(event_id uuid, subscription text)
returns uuid
language sql stable
as $f$
  select (left(replace(event_id::text, '-', ''), 12) || '8' || left(hash, 3) || '8' || substr(hash, 4, 15))::uuid
  from encode(sha256(convert_to(event_id::text || ' ' || subscription, 'UTF8')), 'hex') hash
$f$;
