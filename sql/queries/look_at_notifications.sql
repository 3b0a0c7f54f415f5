-- How full the server's queue of notifications is, from 0 to 1: it fills while a session that listens stays in one transaction.
select pg_notification_queue_usage()::float8 as usage
