"""The pure runtime of one portfolio: events, state, accounting, limits, and its process's loop.

Nothing here knows of nodes, databases or Django. A run is a function of (spec, state, events,
suppress).
"""
