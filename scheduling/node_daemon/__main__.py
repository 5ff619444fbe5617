"""`python -m scheduling.node_daemon`."""

from __future__ import annotations

import sys

from scheduling.node_daemon.cli import main

if __name__ == "__main__":
    sys.exit(main())
