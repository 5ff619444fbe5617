"""Who should run what: pure functions of a snapshot. No database, no clock, no network."""
