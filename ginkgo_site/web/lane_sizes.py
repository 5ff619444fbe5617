"""Sizes of the lanes, and the connections they need. Imports nothing."""

LOGIN_SIZE = 4
RESERVE_SIZE = 2
GENERAL_SIZE = 8
#: Connections for board sockets and the board publisher, in addition to the lanes.
BESIDE = 2
CONNECTIONS = LOGIN_SIZE + RESERVE_SIZE + GENERAL_SIZE + BESIDE
