"""Recorded feeds in PostgreSQL: what reads them. `enact/feed_records/` writes them."""
