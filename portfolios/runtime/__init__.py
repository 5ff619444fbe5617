"""The pure runtime of one portfolio: events, state, accounting, limits, and the loop of its process.

Nothing here knows of nodes, databases or Django. A run is a function of (spec, state, events, suppress).
"""
