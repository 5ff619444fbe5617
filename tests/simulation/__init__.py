"""The database as values: one Python answer for each SQL text of `scheduling.enact`.

The recipes that run on it are the product's own, so that nothing of the protocol is told twice.
`tests/integration/enact/test_simulation_conformance.py` shows that the answers are PostgreSQL's.
"""
