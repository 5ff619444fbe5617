"""`bin/up`: PostgreSQL, web, watcher, worker and nodes under one supervisor."""
