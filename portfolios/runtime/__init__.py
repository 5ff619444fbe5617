"""The runtime of one portfolio: events, state, accounting, limits, and the loop of its process.

Independent of nodes, databases and Django. A run is a function of (spec, state, events, suppress).
"""
