"""A simulated database: one Python answer for each statement of `scheduling.enact`.

The transactions that run on it are those of the product, so no part of the protocol is written
twice. `tests/integration/enact/test_simulation_conformance.py` compares it with PostgreSQL.
"""
