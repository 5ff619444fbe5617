"""Faults that `bin/chaos` injects. `registry` lists them.

Imports nothing: portfolio processes import `faulty_strategies` from this package under their
memory limit, where psycopg and asyncio would be a waste.
"""
