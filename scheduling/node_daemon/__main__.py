"""Run a node daemon: `python -m scheduling.node_daemon`."""

from __future__ import annotations

import sys

from portfolios.runtime.closed_output import exits_on_closed_output
from scheduling.node_daemon.cli import main

if __name__ == "__main__":
    with exits_on_closed_output():
        sys.exit(main())
