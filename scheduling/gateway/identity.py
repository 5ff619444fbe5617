"""Who this web process is among all gateways: its row in scheduling_gateway."""

from __future__ import annotations

import os
import socket
from uuid import uuid4

#: Made anew by each process, so that a restarted one is not taken for its predecessor.
GATEWAY_ID = uuid4()
HOST = socket.gethostname()
PID = os.getpid()
