-- Everything goes, with what others may have put into the schema.
drop schema orchestratum cascade;
