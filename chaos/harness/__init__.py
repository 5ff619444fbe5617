"""One installation under test: its processes, its database, its network."""
