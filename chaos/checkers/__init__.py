"""Check the invariants while faults run and afterwards."""
