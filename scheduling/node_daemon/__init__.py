"""The node daemon: hosts portfolios, each in a process of its own. No Django, no database.

python -m scheduling.node_daemon --server URL --token-file PATH --name N
"""
