"""`python -m scheduling.node_daemon`."""

from __future__ import annotations

import sys

from portfolios.runtime.closed_output import ends_with_its_reader
from scheduling.node_daemon.cli import main

if __name__ == "__main__":
    with ends_with_its_reader():
        sys.exit(main())
