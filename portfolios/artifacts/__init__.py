"""Strategy artifacts: wheels that revisions pin by the hash of their bytes."""
