"""How many requests each lane holds, and how many connections that takes. Imports nothing."""

LOGIN_SIZE = 4
RESERVE_SIZE = 2
GENERAL_SIZE = 8
#: What the sockets of boards and the reader of the board take beside the lanes.
BESIDE = 2
CONNECTIONS = LOGIN_SIZE + RESERVE_SIZE + GENERAL_SIZE + BESIDE
