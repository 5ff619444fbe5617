"""What `bin/up` runs: PostgreSQL, web, watcher, worker and nodes under one supervisor."""
