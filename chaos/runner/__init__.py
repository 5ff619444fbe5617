"""Run faults against a cluster for a while."""
