"""Fault injection: run faults against a whole installation and check invariants meanwhile."""
