-- What every migration script begins with. The lock lasts until the transaction ends, whatever becomes of it, and so is
-- safe behind a transaction pooler: of many processes that start at once one goes on, and the others find its work done.
set local client_min_messages = warning;
set local statement_timeout = 0;
do $$ begin perform pg_advisory_xact_lock(hashtextextended('orchestratum', 0)); end $$;
