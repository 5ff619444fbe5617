"""The fleet as dashboard pages, `cluster_status` and API lists show it, from one snapshot."""
